"""Recall at k and ranks, against scikit-learn, brute force and a case written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from runtime.errors import InputError
from runtime.retrieval.recall import partner_ranks, recall_of
from tests.vectors import unit


@pytest.mark.parametrize("count", [40, 1500])
def test_one_to_one_equals_scikit_learn(count: int) -> None:
    rng = np.random.default_rng(0)
    images = unit(rng.standard_normal((count, 16)))
    texts = unit(images + 0.35 * rng.standard_normal((count, 16)))
    order = rng.permutation(count)
    pairs = np.stack([np.arange(count), order], axis=1)
    candidates = np.empty_like(texts)
    candidates[order] = texts
    for queries, others, partner in ((images, candidates, order), (candidates, images, np.argsort(order))):
        found = recall_of(partner_ranks(queries, others, np.stack([np.arange(count), partner], axis=1)), count)
        for k, share in found.recall.items():
            expected = top_k_accuracy_score(partner, queries @ others.T, k=k, labels=np.arange(count))
            assert share == pytest.approx(expected, abs=1e-9), k
        assert (found.queries, found.candidates) == (count, count)
    shuffled = partner_ranks(images, candidates, np.stack([np.arange(count), rng.permutation(count)], axis=1))
    assert recall_of(shuffled, count).recall[1] < recall_of(partner_ranks(images, candidates, pairs), count).recall[1]


def test_several_partners_equal_brute_force() -> None:
    rng = np.random.default_rng(1)
    queries, candidates = unit(rng.standard_normal((60, 8))), unit(rng.standard_normal((45, 8)))
    pairs = np.concatenate([[(query, rng.integers(45)) for query in range(60)], rng.integers(0, 45, (50, 2))])
    scores = queries.astype(np.float64) @ candidates.astype(np.float64).T
    expected = []
    for query in range(60):
        partners = set(pairs[pairs[:, 0] == query, 1].tolist())
        best = max(scores[query, row] for row in partners)
        expected.append(1 + sum(scores[query, row] > best for row in range(45) if row not in partners))
    ranks = partner_ranks(queries, candidates, pairs)
    assert ranks.tolist() == expected
    assert recall_of(ranks, 45).median_rank == np.median(expected)


def test_by_hand() -> None:
    """Query 0 lies nearest to candidate 2, its partner; query 1 to 0 and 1, then to its partners 2 and 3."""
    queries = np.array([[1, 0], [0, 1]], dtype=np.float32)
    candidates = unit(np.array([[0.1, 1], [0.2, 1], [1, 0.6], [1, -0.9]]))
    ranks = partner_ranks(queries, candidates, np.array([[0, 2], [1, 2], [1, 3]]))
    assert ranks.tolist() == [1, 3]
    found = recall_of(ranks, 4, at=(1, 2, 3))
    assert found.recall == {1: 0.5, 2: 0.5, 3: 1.0}
    assert found.median_rank == 2.0


def test_equal_scores_count_against_the_partner() -> None:
    same = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (30, 1))
    pairs = np.stack([np.arange(30)] * 2, axis=1)
    assert (partner_ranks(same, same, pairs) == 30).all()
    assert recall_of(partner_ranks(same, same, pairs), 30).recall[10] == 0
    rounded = same.copy()
    rounded[::2, 0] = np.nextafter(rounded[::2, 0], np.float32(1))
    assert (partner_ranks(same, rounded, pairs) == 30).all(), "rounding is no difference"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([[0, 0]], "1 queries have no partner; the first is 1"),
        ([[0, 0], [1, 5]], "candidate 5; there are 3"),
        ([[0, 0], [-1, 1]], "query -1; there are 2"),
        ([[0.0, 1.0]], "float64"),
        ([0, 1], r"\(2,\)"),
    ],
)
def test_pairs_that_do_not_fit(pairs: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        partner_ranks(np.eye(2, 4, dtype=np.float32), np.eye(3, 4, dtype=np.float32), np.array(pairs))
    with pytest.raises(InputError, match="no queries"):
        recall_of(np.empty(0, np.int64), 3)
