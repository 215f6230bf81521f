"""Words for one mask in each text of a batch, beside the same engine with its decoder on every token."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.mask_peers import TOP
from bench.turns import Contestant
from bench.workloads import Engine, Workload
from runtime.tokenization import Tokenizer

__all__ = ["fill_mask", "masked_texts"]

_TOKENS = 64
_SENTENCE = "There is a small [MASK] on the right"
# Largest difference of a score from PyTorch's or, in lower precision, from the same engine's.
_TOLERANCE = 1e-5


def masked_texts(tokenizer: Tokenizer, count: int, tokens: int = _TOKENS) -> list[str]:
    """Different texts with one mask each, filled up with digits, which are a token each in every vocabulary."""
    start = len(tokenizer.encode([_SENTENCE])[0])
    digits = np.random.default_rng(0).integers(0, 10, (count, tokens - start))
    return [" ".join([_SENTENCE, *map(str, row)]) for row in digits.tolist()]


def fill_mask(engine: Engine, batch: int) -> Workload:
    """Strings with one mask in 64 tokens → the five best words and their scores; tokenization is within the time.

    Args:
        engine: what is measured; its precision is named, not "auto".
        batch: texts.
    """
    texts = masked_texts(Tokenizer(engine.bundle / "text", engine.config["max_position_embeddings"]), batch)
    name = f"{engine.provider}, {engine.precision}"
    exact = _same_words(_TOLERANCE)
    return Workload(
        f"{batch} texts of {_TOKENS} tokens with one mask each → {TOP} words",
        (
            Contestant(f"decoder on every token ({name})", engine.spec("every token masks", texts=texts), passes=5),
            Contestant(f"this engine ({name})", engine.spec("engine masks", texts=texts), exact, passes=5),
            Contestant(
                "transformers pipeline, PyTorch fp32",
                engine.spec("transformers masks", texts=texts),
                exact if engine.precision == "fp32" else None,
            ),
        ),
        batch,
        "texts",
    )


def _same_words(tolerance: float) -> Callable[[NDArray[np.float64], NDArray[np.float64]], str | None]:
    """A check that the best words are the same, in order, and their scores within a tolerance."""

    def check(found: NDArray[np.float64], expected: NDArray[np.float64]) -> str | None:
        if not np.array_equal(found[:, :TOP], expected[:, :TOP]):
            return "it has other words, or the same in another order, than the first"
        difference = float(np.abs(found[:, TOP:] - expected[:, TOP:]).max())
        # NaN fails as well.
        if difference <= tolerance:
            return None
        return f"a score differs from the first's by {difference:.3g}, at most {tolerance:g} is allowed"

    return check
