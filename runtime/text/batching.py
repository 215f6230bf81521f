"""Group token sequences of many lengths into padded batches with little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["pad_batch", "plan_batches"]


def plan_batches(lengths: Sequence[int], token_budget: int) -> Iterator[NDArray[np.intp]]:
    """Split sequences into batches of similar length.

    Sequences are sorted by length, longest first (so that the largest buffers are allocated once), and a batch is
    closed when one more row would make its padded size exceed the budget. A sequence longer than the budget has its
    own batch.

    Args:
        lengths: number of tokens of each sequence.
        token_budget: largest rows × longest row of a batch.

    Yields:
        Indices into `lengths`, intp (rows,); every index occurs exactly once.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, token_budget // lengths[order[start]])
        yield order[start : start + rows]
        start += rows


def pad_batch(rows: Sequence[Sequence[int]], pad_token_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad token ids to the longest row.

    Args:
        rows: token ids of each text.
        pad_token_id: id to fill with.

    Returns:
        input_ids and attention_mask (1 for a token, 0 for padding), both int64 (rows, longest).
    """
    longest = max(len(row) for row in rows)
    input_ids = np.full((len(rows), longest), pad_token_id, dtype=np.int64)
    attention_mask = np.zeros((len(rows), longest), dtype=np.int64)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = row
        attention_mask[index, : len(row)] = 1
    return input_ids, attention_mask
