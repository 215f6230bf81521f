"""How well texts find their images and images their texts: recall at k and the median rank, both ways.

Source: the figures by which contrastive models of images and texts are usually compared (recall@1, @5, @10 and the
median rank, as in Faghri et al., VSE++, BMVC 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError

__all__ = ["RECALL_AT", "Recall", "partner_ranks", "recall_of"]

RECALL_AT = (1, 5, 10)
# Rounding alone makes scores of equal embeddings differ by as much.
_EQUAL = 1e-6
_BLOCK = 1024


@dataclass(frozen=True)
class Recall:
    """Figures of one direction.

    Attributes:
        queries: number of queries.
        candidates: number of things that each is compared with.
        recall: k → share of the queries with a partner among their k nearest.
        median_rank: median over the queries of the rank of the nearest partner, from 1.
    """

    queries: int
    candidates: int
    recall: dict[int, float]
    median_rank: float


def partner_ranks(
    queries: NDArray[np.float32], candidates: NDArray[np.float32], pairs: NDArray[Any]
) -> NDArray[np.int64]:
    """The rank of each query's nearest partner among all candidates.

    A query's other partners do not count against it. Candidates that are as similar as the partner, within 1e-6, count
    as nearer: a model to which everything is alike finds nothing.

    Args:
        queries: float32 (Q, D), unit L2 norm.
        candidates: float32 (C, D), unit L2 norm.
        pairs: integers (P, 2): rows of a query and of a partner; every query has one at least.

    Returns:
        int64 (Q,), from 1.

    Raises:
        InputError: rows that are not there, or a query without a partner.
    """
    indices = np.asarray(pairs)
    if indices.ndim != 2 or indices.shape[1] != 2 or indices.dtype.kind not in "iu":
        raise InputError(f"pairs are {indices.dtype} {indices.shape}; integers (P, 2) are expected.")
    for side, (name, rows) in enumerate((("query", queries), ("candidate", candidates))):
        outside = indices[(indices[:, side] < 0) | (indices[:, side] >= len(rows)), side]
        if len(outside):
            raise InputError(f"pairs name {name} {outside[0]}; there are {len(rows)}.")
    lonely = np.setdiff1d(np.arange(len(queries)), indices[:, 0])
    if len(lonely):
        raise InputError(f"{len(lonely)} queries have no partner; the first is {lonely[0]}.")
    ranks = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _BLOCK):
        scores = queries[start : start + _BLOCK] @ candidates.T
        mine = indices[(indices[:, 0] >= start) & (indices[:, 0] < start + len(scores))]
        is_partner = np.zeros(scores.shape, dtype=bool)
        is_partner[mine[:, 0] - start, mine[:, 1]] = True
        nearest = np.where(is_partner, scores, -np.inf).max(axis=1, keepdims=True)
        ranks[start : start + len(scores)] = 1 + ((scores > nearest - _EQUAL) & ~is_partner).sum(axis=1)
    return ranks


def recall_of(ranks: NDArray[np.int64], candidates: int, at: Sequence[int] = RECALL_AT) -> Recall:
    """Sum ranks up.

    Args:
        ranks: of `partner_ranks`, (Q,).
        candidates: number of candidates.
        at: the k of recall@k.

    Raises:
        InputError: no ranks.
    """
    if not len(ranks):
        raise InputError("There is nothing to evaluate: no queries.")
    shares = {k: float((ranks <= k).mean()) for k in at}
    return Recall(len(ranks), candidates, shares, float(np.median(ranks)))
