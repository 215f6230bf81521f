"""How much a lower precision changes the retrieval of texts by those that belong to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["pair_figures"]

Embeds = NDArray[np.float32]

_FIRST = 10


def pair_figures(found: tuple[Embeds, Embeds], expected: tuple[Embeds, Embeds]) -> dict[str, float]:
    """Compare how well the second text of each pair is found by the first.

    Args:
        found: float32 (P, D) of the first and of the second texts; expected alike, from the reference.
    """
    # Equal texts are one text, whatever the engine makes of them in different batches.
    _, same = np.unique(expected[1].round(5), axis=0, return_inverse=True)
    same = same.reshape(-1)
    once = np.unique(same, return_index=True)[1]
    mrr, recall = zip(*(_reciprocal_ranks(*embeds, once, same) for embeds in (expected, found)), strict=True)
    return {
        "pairs_mrr": mrr[0],
        "pairs_mrr_change": mrr[1] / mrr[0] - 1,
        "pairs_recall_at_10_change": recall[1] / recall[0] - 1 if recall[0] else 0.0,
    }


def _reciprocal_ranks(
    first: Embeds, second: Embeds, once: NDArray[np.intp], same: NDArray[np.intp]
) -> tuple[float, float]:
    """Mean reciprocal rank of each first's own second among all different ones, and the share among the first ten."""
    similarities = first.astype(np.float64) @ second[once].astype(np.float64).T
    own = similarities[np.arange(len(first)), same]
    ranks = 1 + (similarities > own[:, None]).sum(axis=1)
    return float((1 / ranks).mean()), float((ranks <= _FIRST).mean())
