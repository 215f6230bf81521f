"""Cosine similarities of embeddings: pairwise, and of all with all."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from runtime.errors import Fault, InputError
from runtime.process import array_of, items_of
from runtime.process.checks import TEXTS

__all__ = ["pairwise_similarity", "similarity_matrix", "text_similarity"]


def pairwise_similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of row i of `a` with row i of `b` (reference: `TextInferenceEngine.get_pairwise_similarities`).

    Only the N products that are asked for are computed, where the reference computes N × N and takes the diagonal.

    Args:
        a: float32 (N, D), unit L2 norm.
        b: float32 (N, D), unit L2 norm.

    Returns:
        float32 (N,) in [-1, 1]; rounding that leads out of it is clipped.

    Raises:
        InputError: the shapes differ. (The reference cuts the longer one without a word.)
    """
    a, b = array_of("a", a, "(N, D)"), array_of("b", b, "(N, D)")
    if a.ndim != 2 or a.shape != b.shape:
        raise InputError(
            f"Embeddings of shapes {a.shape} and {b.shape} came where two of one shape (N, D) are expected."
        )
    return np.asarray(np.clip(np.einsum("nd,nd->n", a, b), -1.0, 1.0), dtype=np.float32)


def similarity_matrix(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of every row of `a` with every row of `b`.

    Args:
        a: float32 (N, D), unit L2 norm.
        b: float32 (M, D), unit L2 norm.

    Returns:
        float32 (N, M) in [-1, 1].

    Raises:
        InputError: not two dimensions each, or another length of the embeddings.
    """
    a, b = array_of("a", a, "(N, D)"), array_of("b", b, "(M, D)")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"Embeddings of shapes {a.shape} and {b.shape} came where (N, D) and (M, D) are expected.")
    return np.asarray(np.clip(a @ b.T, -1.0, 1.0), dtype=np.float32)


def text_similarity(
    encode: Callable[[list[str]], NDArray[np.float32]], a: str | Iterable[str], b: str | Iterable[str]
) -> NDArray[np.float32]:
    """What `TextEncoder.similarity` does: both sides are encoded together, so that equal texts are computed once.

    Args:
        encode: texts → float32 (len, D), unit L2 norm; raises InputError with a fault for each bad text.
        a: a string, or N strings.
        b: as many.

    Returns:
        float32 (N,) in [-1, 1].

    Raises:
        InputError: see `TextEncoder.similarity`.
    """
    first, second = (items_of(texts, "texts", TEXTS, name=name) for name, texts in (("a", a), ("b", b)))
    count = len(first)
    if count != len(second):
        raise InputError(
            f"a has {count} texts and b has {len(second)}: text i of one is compared with text i of the other. Give as "
            "many of both, or compare all with all: similarity_matrix(encode(a), encode(b)) of runtime.text.similarity."
        )
    if not first:
        raise InputError("The lists of texts are empty; at least one pair is expected.")
    try:
        embeddings = encode([*first, *second])
    except InputError as error:
        # Positions in the joined list would mean nothing to the caller.
        faults = [
            Fault(fault.index % count, f"{'ab'[fault.index // count]}: {fault.name}", fault.reason)
            for fault in error.faults
        ]
        raise InputError.from_faults("texts", faults, 2 * count) from None
    return pairwise_similarity(embeddings[:count], embeddings[count:])
