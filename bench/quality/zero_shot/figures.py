"""Accuracy, balanced accuracy and AUROC of probabilities, with bootstrap intervals over the images.

Images are drawn with replacement, 2,000 times, the same for every figure and every system; an interval holds the middle
95 % of a figure's draws (the percentile bootstrap). A draw without both kinds of images has no AUROC and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.tasks.truth import ABSENT, PRESENT

__all__ = ["DRAWS", "Figure", "Figures", "figures_of", "is_exclusive"]

DRAWS = 2000
_ENDS = (2.5, 97.5)
_DECISION = 0.5
# Weights that are held at a time, in numbers.
_HELD = 4_000_000

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A figure and the ends of its 95 % bootstrap interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Figures:
    """How well images are classified.

    Attributes:
        exclusive: whether each image has one of the labels: the label of the highest probability is then the answer;
            otherwise each label is told by itself, at a probability of 0.5.
        overall: "accuracy", "balanced_accuracy" (the mean of the labels' recall) and "mean_auroc"; means over the
            labels where these are told by themselves.
        labels: label → "auroc", against all other images, and "recall"; or "auroc", "accuracy" and
            "balanced_accuracy" (the mean of sensitivity and specificity).
    """

    exclusive: bool
    overall: Mapping[str, Figure]
    labels: Mapping[str, Mapping[str, Figure]]


def is_exclusive(truth: NDArray[np.int8]) -> bool:
    """Whether every image has exactly one of several labels, and nothing is left open.

    Args:
        truth: int8 (images, labels), see `runtime.tasks.truth`.
    """
    known = bool(((truth == PRESENT) | (truth == ABSENT)).all())
    return known and truth.shape[1] > 1 and bool(((truth == PRESENT).sum(axis=1) == 1).all())


def figures_of(
    labels: Sequence[str],
    truth: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    draws: int = DRAWS,
    seed: int = 0,
) -> Figures:
    """Compare probabilities with the truth; uncertain and blank values are left out, label by label.

    Args:
        labels: names.
        truth: int8 (images, labels), see `runtime.tasks.truth`; at least one image.
        probabilities: float32 (images, labels) in [0, 1].
        draws: of the bootstrap.
        seed: of its draws.
    """
    exclusive = is_exclusive(truth)
    measure = _measured_together if exclusive else _measured_apart
    values = measure(truth, probabilities, np.ones((1, len(truth))))
    chunks = [measure(truth, probabilities, weights) for weights in _resampled(len(truth), draws, seed)]
    figures = {
        key: _figure(value[0], np.concatenate([chunk[key] for chunk in chunks])) for key, value in values.items()
    }
    by_label: dict[str, dict[str, Figure]] = {label: {} for label in labels}
    for (column, name), figure in figures.items():
        if column is not None:
            by_label[labels[column]][name] = figure
    return Figures(exclusive, {name: figure for (column, name), figure in figures.items() if column is None}, by_label)


# Column of a label, None for all of them; name of a figure → one for each draw.
Measured = dict[tuple[int | None, str], Rows]


def _measured_together(truth: NDArray[np.int8], probabilities: NDArray[np.float32], weights: Rows) -> Measured:
    """Of images with one label each: the most probable one is the answer."""
    classes, chosen = truth.argmax(axis=1), probabilities.argmax(axis=1)
    found: Measured = {
        (None, "accuracy"): _shares(chosen == classes, weights),
        (None, "balanced_accuracy"): _balanced(classes, chosen == classes, weights),
    }
    for column in range(truth.shape[1]):
        mine = classes == column
        found[column, "auroc"] = _aurocs(mine, probabilities[:, column], weights)
        found[column, "recall"] = _shares(chosen[mine] == column, weights[:, mine])
    return found | {(None, "mean_auroc"): _mean_of(found, "auroc")}


def _measured_apart(truth: NDArray[np.int8], probabilities: NDArray[np.float32], weights: Rows) -> Measured:
    """Of labels that stand alone: each is told where its probability is over 0.5."""
    found: Measured = {}
    for column in range(truth.shape[1]):
        known = (truth[:, column] == PRESENT) | (truth[:, column] == ABSENT)
        positive, scores, drawn = truth[known, column] == PRESENT, probabilities[known, column], weights[:, known]
        right = (scores > _DECISION) == positive
        found[column, "auroc"] = _aurocs(positive, scores, drawn)
        found[column, "accuracy"] = _shares(right, drawn)
        found[column, "balanced_accuracy"] = _balanced(positive, right, drawn)
    means = {(None, name): _mean_of(found, name) for name in ("accuracy", "balanced_accuracy")}
    return found | means | {(None, "mean_auroc"): _mean_of(found, "auroc")}


def _mean_of(found: Measured, name: str) -> Rows:
    return _means([rows for (_, each), rows in found.items() if each == name])


def _means(rows: Sequence[Rows]) -> Rows:
    """Of each draw, over those that have the figure; NaN where none has."""
    stacked = np.stack(rows)
    return _divided(np.nansum(stacked, axis=0), (~np.isnan(stacked)).sum(axis=0).astype(np.float64))


def _figure(value: float, drawn: Rows) -> Figure:
    defined = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(defined):
        return Figure(None, None, None)
    low, high = np.percentile(defined, _ENDS)
    return Figure(float(value), float(low), float(high))


def _resampled(count: int, draws: int, seed: int) -> Iterator[Rows]:
    """How often each image is drawn: float64 (draws, images), some draws at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, _HELD // max(1, count))
    for start in range(0, draws, step):
        drawn = rng.integers(0, count, (min(step, draws - start), count))
        yield np.stack([np.bincount(each, minlength=count) for each in drawn]).astype(np.float64)


def _aurocs(positive: NDArray[np.bool_], scores: NDArray[np.float32], weights: Rows) -> Rows:
    """AUROC of each draw, by `roc_auc`'s rule, of images that count so many times; NaN without one of the kinds."""
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    positives, negatives = (
        np.add.reduceat(weights[:, order] * kind[order], starts, axis=1) for kind in (positive, ~positive)
    )
    below = np.cumsum(negatives, axis=1) - negatives
    wins = (positives * (below + negatives / 2)).sum(axis=1)
    return _divided(wins, positives.sum(axis=1) * negatives.sum(axis=1))


def _shares(right: NDArray[np.bool_], weights: Rows) -> Rows:
    return _divided(weights @ right.astype(np.float64), weights.sum(axis=1))


def _balanced(classes: NDArray[Any], right: NDArray[np.bool_], weights: Rows) -> Rows:
    """Mean recall of the classes that each draw has."""
    recalls = [_shares(right[classes == each], weights[:, classes == each]) for each in np.unique(classes)]
    return _means(recalls) if recalls else np.full(len(weights), np.nan)


def _divided(numbers: Rows, by: Rows) -> Rows:
    found: Rows = np.divide(numbers, by, out=np.full(len(numbers), np.nan), where=by > 0)
    return found
