"""Figures of how well a classification is done."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError

__all__ = ["accuracy", "balanced_accuracy", "roc_auc"]


def roc_auc(truth: NDArray[Any], scores: NDArray[Any]) -> float:
    """Area under the receiver operating characteristic curve.

    That is the share of pairs of a positive and a negative in which the positive has the higher score; equal scores
    count half (Mann and Whitney's U; the trapezoidal rule gives the same).

    Args:
        truth: (N,) of 0 and 1, or bool.
        scores: (N,), finite; higher means more likely positive. Only their order matters.

    Returns:
        A float in [0, 1]; NaN where there are no positives or no negatives, so that it is not defined.

    Raises:
        InputError: nothing came, shapes differ, truth other than 0 and 1, scores that are not finite.
    """
    labels, values = _pair(truth, scores)
    if not np.isin(labels, (0, 1)).all():
        raise InputError(f"truth holds {labels[~np.isin(labels, (0, 1))][0]!r}; 0 and 1 are expected.")
    if values.dtype.kind not in "iufb" or not np.isfinite(values).all():
        raise InputError("scores hold what is no finite number.")
    is_positive = labels.astype(bool)
    positives = int(is_positive.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return math.nan
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    # The mean of the ranks, from 1, that equal scores take up together.
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group.ravel()]
    wins = ranks[is_positive].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def accuracy(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    """Share of predictions that are true.

    Args:
        truth: (N,) classes of any dtype.
        predicted: (N,) classes.

    Returns:
        A float in [0, 1].

    Raises:
        InputError: nothing came, or shapes differ.
    """
    labels, values = _pair(truth, predicted)
    return float((labels == values).mean())


def balanced_accuracy(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    """Mean recall of the classes: of each, the share of its items that are predicted to be it.

    Args:
        truth: (N,) classes of any dtype; those that occur here count.
        predicted: (N,) classes.

    Returns:
        A float in [0, 1].

    Raises:
        InputError: nothing came, or shapes differ.
    """
    labels, values = _pair(truth, predicted)
    return float(np.mean([(values[labels == each] == each).mean() for each in np.unique(labels)]))


def _pair(truth: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    first, second = np.asarray(truth), np.asarray(other)
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(f"Shapes {first.shape} and {second.shape} came where two of (N,) are expected.")
    if not len(first):
        raise InputError("There is nothing to evaluate: the arrays are empty.")
    return first, second
