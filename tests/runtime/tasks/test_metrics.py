"""AUROC and accuracy against scikit-learn and cases worked out by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from runtime.errors import InputError
from runtime.tasks.metrics import accuracy, balanced_accuracy, roc_auc


def test_roc_auc_by_hand() -> None:
    """Positives 0.9, 0.4, 0.4 and negatives 0.4, 0.1: of 6 pairs 4 are won and 2 are ties."""
    assert roc_auc(np.array([1, 1, 0, 1, 0]), np.array([0.9, 0.4, 0.4, 0.4, 0.1])) == 5 / 6
    assert roc_auc(np.array([True, False]), np.array([2, 1])) == 1
    assert roc_auc(np.array([0, 1]), np.array([2.0, 1.0])) == 0
    assert roc_auc(np.array([0, 1, 1, 0]), np.zeros(4)) == 0.5


@pytest.mark.parametrize("levels", [1, 2, 5, 50, 10**9])
def test_roc_auc_equals_scikit_learn_with_many_ties_and_few(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for count in (2, 3, 10, 101, 1000):
        truth = rng.integers(0, 2, count)
        truth[:2] = 0, 1
        for dtype in (np.float32, np.float64):
            scores = (rng.integers(0, levels, count) / levels + truth * rng.random()).astype(dtype)
            assert roc_auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_roc_auc_depends_on_the_order_of_scores_only() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 2, 300), rng.normal(size=300)
    assert roc_auc(truth, np.exp(5 * scores)) == roc_auc(truth, scores)
    assert roc_auc(truth, -scores) == pytest.approx(1 - roc_auc(truth, scores), abs=1e-12)
    order = rng.permutation(300)
    assert roc_auc(truth[order], scores[order]) == roc_auc(truth, scores)


@pytest.mark.parametrize("only", [0, 1])
def test_roc_auc_of_one_class_is_not_defined(only: int) -> None:
    truth, scores = np.full(5, only), np.arange(5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(roc_auc(truth, scores))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert math.isnan(roc_auc_score(truth, scores)), "scikit-learn says the same, with a warning"


def test_many_more_of_one_class_keep_every_digit() -> None:
    """Sums of ranks of a large set are beyond what float32 holds."""
    count = 300_000
    truth = np.zeros(count, dtype=np.int8)
    truth[::1000] = 1
    scores = np.random.default_rng(0).random(count, dtype=np.float32)
    assert roc_auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 5])
def test_accuracy_equals_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth, predicted = rng.integers(0, classes, (2, 77))
    assert accuracy(truth, predicted) == accuracy_score(truth, predicted)
    names = np.array(["a", "b", "c", "d", "e"])
    assert accuracy(names[truth], names[predicted]) == accuracy_score(truth, predicted)


@pytest.mark.parametrize("classes", [2, 5])
def test_balanced_accuracy_equals_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth = rng.choice(classes, 200, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    predicted = np.where(rng.random(200) < 0.6, truth, classes - 1)
    found = balanced_accuracy(truth, predicted)
    assert found == pytest.approx(balanced_accuracy_score(truth, predicted), abs=1e-12)
    assert abs(found - accuracy(truth, predicted)) > 0.05, "the classes' sizes do not count"
    assert balanced_accuracy(np.array(["a", "b", "b"]), np.array(["a", "a", "b"])) == 0.75


def test_accuracy_by_hand() -> None:
    assert accuracy(np.array([1, 0, 1, 1]), np.array([1, 1, 1, 0])) == 0.5


@pytest.mark.parametrize(
    ("truth", "scores", "message"),
    [
        ([], [], "nothing to evaluate"),
        ([0, 1], [0.1, 0.2, 0.3], r"Shapes \(2,\) and \(3,\)"),
        ([[0, 1]], [[0.1, 0.2]], r"two of \(N,\)"),
        ([0, 2], [0.1, 0.2], "truth holds .*2.*; 0 and 1 are expected"),
        ([0.0, math.nan], [0.1, 0.2], "truth holds .*nan"),
        ([0, 1], [0.1, math.nan], "no finite number"),
        ([0, 1], [0.1, math.inf], "no finite number"),
        ([0, 1], ["a", "b"], "no finite number"),
    ],
)
def test_what_cannot_be_evaluated(truth: list, scores: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        roc_auc(np.array(truth), np.array(scores))


def test_accuracy_of_nothing_or_of_other_shapes() -> None:
    with pytest.raises(InputError, match="nothing to evaluate"):
        accuracy(np.array([]), np.array([]))
    with pytest.raises(InputError, match="Shapes"):
        accuracy(np.zeros(2), np.zeros(3))
