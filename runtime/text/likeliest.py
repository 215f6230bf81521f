"""The likeliest tokens of a distribution, and their probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_of", "scores_of"]

# Neighbours in the vocabulary of which only the best is looked at first.
_BLOCK = 128


def scores_of(logits: NDArray[np.float32], ids: NDArray[np.intp]) -> NDArray[np.float64]:
    """Softmax over all tokens, of some.

    Args:
        logits: float32 (vocabulary,).
        ids: intp, of which tokens.
    """
    largest = logits.max()
    total = np.exp(logits - largest).sum(dtype=np.float64)
    return np.asarray(np.exp((logits[ids] - largest).astype(np.float64)) / total)


def best_of(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Indices of the largest, best first; of equal ones the lower id first.

    Args:
        logits: float32 (N,).
        count: how many.
    """
    candidates = np.arange(len(logits))
    blocks = len(logits) // _BLOCK
    if count <= blocks:
        # At least as many reach the `count`-th largest of the blocks' maxima. 0.04 ms for 30,522 tokens, where
        # partitioning them takes 0.3.
        maxima = logits[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
        candidates = np.flatnonzero(logits >= np.partition(maxima, blocks - count)[blocks - count])
    return candidates[np.argsort(-logits[candidates], kind="stable")][:count]
