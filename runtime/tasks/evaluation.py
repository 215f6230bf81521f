"""Probabilities beside the truth: AUROC and accuracy, label by label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.tasks.metrics import accuracy, roc_auc
from runtime.tasks.truth import ABSENT, BLANK, PRESENT, UNCERTAIN

__all__ = ["Evaluation", "LabelFigures", "evaluate"]

_DECISION = 0.5


@dataclass(frozen=True)
class LabelFigures:
    """How well one label is told.

    Attributes:
        label: its name.
        images: those whose truth is known: positives and negatives. The figures are theirs.
        positives: how many of them show it.
        uncertain: images left out because their truth is uncertain.
        blank: images left out because nothing is said of it.
        auroc: None where there are no positives or no negatives.
        accuracy: share of images for which probability > 0.5 says the truth; None without images.
    """

    label: str
    images: int
    positives: int
    uncertain: int
    blank: int
    auroc: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation:
    """Figures of all labels, and their means over the labels that have them (macro average).

    Attributes:
        labels: one each.
        mean_auroc: None where no label has one.
        mean_accuracy: None where no label has one.
    """

    labels: tuple[LabelFigures, ...]
    mean_auroc: float | None
    mean_accuracy: float | None


def evaluate(labels: Sequence[str], truth: NDArray[np.int8], probabilities: NDArray[np.float32]) -> Evaluation:
    """Compare probabilities with the truth.

    Uncertain and blank values are left out, label by label ("U-Ignore" of Irvin et al., AAAI 2019).

    Args:
        labels: names.
        truth: int8 (images, labels), see `runtime.tasks.truth`.
        probabilities: float32 (images, labels) in [0, 1].

    Raises:
        InputError: shapes that do not go together.
    """
    if truth.shape != probabilities.shape or truth.shape[1:] != (len(labels),):
        raise InputError(
            f"truth {truth.shape} and probabilities {probabilities.shape} came for {len(labels)} labels; two of "
            f"(images, {len(labels)}) are expected."
        )
    found = tuple(_figures(label, truth[:, column], probabilities[:, column]) for column, label in enumerate(labels))
    return Evaluation(found, _mean([each.auroc for each in found]), _mean([each.accuracy for each in found]))


def _figures(label: str, truth: NDArray[np.int8], probabilities: NDArray[np.float32]) -> LabelFigures:
    known = (truth == PRESENT) | (truth == ABSENT)
    positive, scores = truth[known] == PRESENT, probabilities[known]
    area = roc_auc(positive, scores) if len(positive) else math.nan
    return LabelFigures(
        label=label,
        images=len(positive),
        positives=int(positive.sum()),
        uncertain=int((truth == UNCERTAIN).sum()),
        blank=int((truth == BLANK).sum()),
        auroc=None if math.isnan(area) else area,
        accuracy=accuracy(positive, scores > _DECISION) if len(positive) else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
