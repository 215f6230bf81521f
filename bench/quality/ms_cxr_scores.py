"""Score every phrase of annotated images, and average the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.quality.ms_cxr_annotations import AnnotatedImage
from runtime.errors import InputError
from runtime.tasks.grounding import THRESHOLDS, GroundingScores, score_grounding

__all__ = ["Averages", "Evaluation", "Maps", "ScoredPhrase", "average", "average_classes", "by_class", "evaluate"]

# An image file and phrases → float32 (H, W) of the image for each phrase, NaN where the model does not see.
Maps = Callable[[Path, Sequence[str]], list[NDArray[np.float32]]]

# Boxes are scaled to the image at hand. Where its shape differs by more, it was cut or padded, and they are misplaced.
_SAME_SHAPE = 0.02


@dataclass(frozen=True)
class ScoredPhrase:
    """A phrase and how well each system's map agrees with its boxes.

    Attributes:
        scores: name of the system → scores; NaN where the boxes are not in what the model sees.
    """

    dicom_id: str
    category: str
    text: str
    scores: Mapping[str, GroundingScores]


@dataclass
class Evaluation:
    """What came out.

    Attributes:
        phrases: all that were scored.
        unusable: images that are there but cannot be used, and why.
        misshapen: images of another shape than that which was annotated.
        differences: name of each system but the first → the largest difference of a pixel's cosine to the first's.
    """

    phrases: list[ScoredPhrase] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)


def evaluate(
    images: Sequence[AnnotatedImage],
    files: Mapping[str, Path],
    systems: Mapping[str, Maps],
    advance: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score the phrases of images, one image after the other.

    Args:
        images: what is annotated.
        files: `dicom_id` → image file; of any size, boxes are scaled to it.
        systems: name → what makes maps.
        advance: called after each image.
    """
    evaluation = Evaluation(differences=dict.fromkeys([*systems][1:], 0.0))
    for image in images:
        try:
            maps = {
                name: system(files[image.dicom_id], [phrase.text for phrase in image.phrases])
                for name, system in systems.items()
            }
        except InputError as error:
            evaluation.unusable.append(f"{image.dicom_id}: {error.faults[0].reason if error.faults else error}")
            continue
        finally:
            advance()
        first = next(iter(maps.values()))
        height, width = first[0].shape
        if abs(width / height * image.size[1] / image.size[0] - 1) > _SAME_SHAPE:
            was = f"{image.size[0]:g} × {image.size[1]:g}"
            evaluation.misshapen.append(f"{image.dicom_id}: {width} × {height} pixels, {was} when it was annotated")
        for index, phrase in enumerate(image.phrases):
            boxes = [box.scaled(width, height) for box in phrase.boxes]
            scores = {name: score_grounding(found[index], boxes) for name, found in maps.items()}
            evaluation.phrases.append(ScoredPhrase(image.dicom_id, phrase.category, phrase.text, scores))
            for name in evaluation.differences:
                largest = float(np.nanmax(np.abs(maps[name][index] - first[index])))
                evaluation.differences[name] = max(evaluation.differences[name], largest)
    return evaluation


@dataclass(frozen=True)
class Averages:
    """Means over phrases; NaN if there are none.

    Attributes:
        phrases: how many.
        cnr: of the signed contrast-to-noise ratio.
        absolute_cnr: of its absolute value, which is what Boecking et al. report.
        ious: of the intersection over union at each threshold.
        pointing: of the pointing game.
    """

    phrases: int
    cnr: float
    absolute_cnr: float
    ious: tuple[float, ...]
    pointing: float

    @property
    def miou(self) -> float:
        """Mean over the thresholds."""
        return float(np.mean(self.ious))


def by_class(phrases: Sequence[ScoredPhrase]) -> dict[str, list[ScoredPhrase]]:
    """Finding → its phrases, by name."""
    return {
        name: [phrase for phrase in phrases if phrase.category == name]
        for name in sorted({phrase.category for phrase in phrases})
    }


def average(phrases: Sequence[ScoredPhrase], system: str) -> Averages:
    """Means over the phrases whose boxes are in what the model sees, at least in part.

    A ratio that is not defined all the same, since a box covers all that the model sees, is left out of the mean ratio.
    """
    scores = [phrase.scores[system] for phrase in phrases if not np.isnan(phrase.scores[system].pointing)]
    return _averages(len(scores), scores)


def average_classes(classes: Sequence[Averages]) -> Averages:
    """Means of the classes' means, each class counting the same: the papers' "Avg."."""
    counted = [each for each in classes if each.phrases]
    return _averages(sum(each.phrases for each in counted), counted)


def _averages(phrases: int, scores: Sequence[GroundingScores | Averages]) -> Averages:
    return Averages(
        phrases,
        _mean([each.cnr for each in scores]),
        _mean([each.absolute_cnr for each in scores]),
        tuple(_mean(column) for column in zip(*(each.ious for each in scores), strict=True))
        or (np.nan,) * len(THRESHOLDS),
        _mean([each.pointing for each in scores]),
    )


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
