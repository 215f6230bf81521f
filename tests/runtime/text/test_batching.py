from __future__ import annotations

import numpy as np

from runtime.text import pad_batch, plan_batches


def test_every_row_is_in_exactly_one_batch_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(2, 513, 500).tolist()
    batches = list(plan_batches(lengths, 2048))
    assert sorted(np.concatenate(batches)) == list(range(500))
    for batch in batches:
        rows = [lengths[index] for index in batch]
        assert max(rows) * len(rows) <= 2048
    padded = sum(max(lengths[index] for index in batch) * len(batch) for batch in batches)
    assert padded < 1.05 * sum(lengths), "sorting leaves little padding"


def test_a_row_over_the_budget_goes_alone() -> None:
    assert [batch.tolist() for batch in plan_batches([3, 100, 3], 10)] == [[1], [0, 2]]


def test_padding() -> None:
    input_ids, attention_mask = pad_batch([[2, 7, 3], [2, 3]], 9)
    assert input_ids.tolist() == [[2, 7, 3], [2, 3, 9]]
    assert attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert input_ids.dtype == attention_mask.dtype == np.int64
