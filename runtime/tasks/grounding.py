"""Phrase grounding: where a phrase is found in an image, the boxes it should be found in, and how well they agree.

Sources of the metrics: Boecking et al., "Making the Most of Text Semantics to Improve Biomedical Vision–Language
Processing" (ECCV 2022) for the contrast-to-noise ratio and the mean IoU; Bannur et al., "Learning to Exploit Temporal
Structure for Biomedical Vision–Language Processing" (CVPR 2023) for the signed ratio; Zhang et al., "Top-down Neural
Attention by Excitation Backprop" (ECCV 2016) for the pointing game.

Pixels that are NaN, outside the crop that the model sees, count for nothing: neither as inside nor as outside, nor as
missed. The reference package publishes no metrics; the evaluations that others have published for its maps leave those
pixels out of the ratio too. The threshold of a mask is applied to the cosine itself, which is not rescaled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.process import array_of, items_of
from runtime.process.checks import missing, number

__all__ = [
    "THRESHOLDS",
    "Box",
    "Grounding",
    "GroundingScores",
    "box_mask",
    "contrast_to_noise",
    "intersection_over_union",
    "pointing_game",
    "score_grounding",
]

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Box:
    """A rectangle in an image.

    Attributes:
        x: left edge in pixels from the image's left edge; may lie outside the image, and between pixels.
        y: top edge in pixels from the image's top edge, likewise.
        width: in pixels, more than 0.
        height: in pixels, more than 0.

    Raises:
        InputError: a value that is not finite, or no area.
    """

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in ("x", "y", "width", "height")}
        for name, value in values.items():
            if not isinstance(value, (float, np.floating)):
                number(f"{name} of a box", value, "a finite number")
        if not all(map(math.isfinite, values.values())):
            raise InputError(f"The box {self} has values that are not finite; x, y, width, height are expected.")
        if self.width <= 0 or self.height <= 0:
            raise InputError(f"The box {self} has no area; a width and a height of more than 0 are expected.")

    def __str__(self) -> str:
        return f"{self.x:g},{self.y:g},{self.width:g},{self.height:g}"

    def scaled(self, horizontally: float, vertically: float) -> Box:
        """The same box in an image that is so many times as wide and as high."""
        return Box(self.x * horizontally, self.y * vertically, self.width * horizontally, self.height * vertically)

    def clipped(self, size: tuple[float, float]) -> Box | None:
        """The part of the box within an image.

        Args:
            size: width and height of the image in pixels.

        Returns:
            The box itself if all of it is; None if nothing is.
        """
        left, top = max(0.0, self.x), max(0.0, self.y)
        right, bottom = min(size[0], self.x + self.width), min(size[1], self.y + self.height)
        if right <= left or bottom <= top:
            return None
        within = (left, top) == (self.x, self.y) and (right, bottom) == (self.x + self.width, self.y + self.height)
        return self if within else Box(left, top, right - left, bottom - top)


@dataclass(frozen=True)
class Grounding:
    """What one run of the image network says about an image and a phrase.

    Attributes:
        similarity_map: float32 (H, W) of the image, in [-1, 1]; NaN outside `crop`.
        score: global similarity of image and phrase, in [-1, 1].
        crop: the square of the image that the model sees; a rectangle where both sides are resized apart, and reaching
            beyond the image where that was padded.
        patches: float32 (rows, columns), the smoothed similarity of each patch: the map before it was enlarged to
            `crop`.
    """

    similarity_map: NDArray[np.float32]
    score: float
    crop: Box
    patches: NDArray[np.float32]

    @property
    def strongest(self) -> tuple[int, int]:
        """Row and column of the patch that resembles the phrase most, of those whose centre lies in the image."""
        rows, columns = (
            (start + (np.arange(count) + 0.5) * length / count, end)
            for start, length, count, end in (
                (self.crop.y, self.crop.height, self.patches.shape[0], self.similarity_map.shape[0]),
                (self.crop.x, self.crop.width, self.patches.shape[1], self.similarity_map.shape[1]),
            )
        )
        above, beside = ((centres >= 0) & (centres < end) for centres, end in (rows, columns))
        inside = np.where(np.outer(above, beside), self.patches, -np.inf)
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        return int(row), int(column)


@dataclass(frozen=True)
class GroundingScores:
    """How well a similarity map agrees with the boxes of its phrase; NaN where a figure is not defined.

    Attributes:
        cnr: signed contrast-to-noise ratio, see `contrast_to_noise`.
        ious: intersection over union at each threshold, see `intersection_over_union`.
        pointing: see `pointing_game`.
    """

    cnr: float
    ious: tuple[float, ...]
    pointing: float

    @property
    def absolute_cnr(self) -> float:
        """The contrast-to-noise ratio as Boecking et al. define it: with the absolute difference of the means."""
        return abs(self.cnr)

    @property
    def miou(self) -> float:
        """Mean of `ious`."""
        return float(np.mean(self.ious))


def score_grounding(
    similarity_map: NDArray[np.float32], boxes: Box | Sequence[Box], thresholds: Sequence[float] = THRESHOLDS
) -> GroundingScores:
    """All metrics of one phrase. Several boxes count as their union.

    Args:
        similarity_map: float32 (H, W), NaN outside the crop; see `Engine.similarity_map`.
        boxes: one or more, where the phrase is, in pixels of the map; what lies outside the image is cut off.
        thresholds: of the cosine, for the IoU.

    Raises:
        InputError: no boxes, or a map that is not two-dimensional.
    """
    similarity_map = array_of("similarity_map", similarity_map, "float32 (H, W)", kinds="f")
    if similarity_map.ndim != 2:
        raise InputError(f"The similarity map has shape {similarity_map.shape}; (H, W) is expected.")
    boxes = [boxes] if isinstance(boxes, Box) else items_of(boxes, "boxes", "a list of Box", ordered=False)
    if not boxes:
        raise InputError("The list of boxes is empty; at least one box is expected.")
    for box in boxes:
        if not isinstance(box, Box):
            raise InputError(f"{missing(box).capitalize()} came where a Box is expected: Box(x, y, width, height).")
    thresholds = [number("a threshold", value, "a cosine") for value in items_of(thresholds, "thresholds", "numbers")]
    mask = box_mask(boxes, (similarity_map.shape[0], similarity_map.shape[1]))
    seen = np.isfinite(similarity_map)
    values, inside = similarity_map[seen], mask[seen]
    return GroundingScores(
        contrast_to_noise(values, inside),
        tuple(intersection_over_union(values, inside, threshold) for threshold in thresholds),
        pointing_game(values, inside),
    )


def box_mask(boxes: Sequence[Box], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centre lies in at least one of the boxes.

    Args:
        boxes: any number; what lies outside the image is cut off.
        shape: height and width of the image.

    Returns:
        bool (H, W).
    """
    mask = np.zeros(shape, dtype=np.bool_)
    for box in boxes:
        rows, columns = _centres(box.y, box.height), _centres(box.x, box.width)
        mask[rows, columns] = True
    return mask


def _centres(start: float, length: float) -> slice:
    """The positions whose centre, half a pixel further, lies in [start, start + length)."""
    return slice(max(0, math.ceil(start - 0.5)), max(0, math.ceil(start + length - 0.5)))


def contrast_to_noise(similarity_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Signed contrast-to-noise ratio: (μ_in − μ_out) / √(σ²_in + σ²_out), with population variances.

    Boecking et al. report its absolute value, which also rewards maps that are lower inside the boxes; Bannur et al.
    (BioViL-T) the signed one.

    Args:
        similarity_map: float32, any shape; NaN is left out.
        mask: bool, the same shape, True inside the boxes.

    Returns:
        The ratio; NaN if nothing is inside or nothing outside; 0 for a constant map; infinite if there is a contrast
        but no noise.
    """
    seen = np.isfinite(similarity_map)
    inside, outside = similarity_map[mask & seen], similarity_map[~mask & seen]
    if not inside.size or not outside.size:
        return math.nan
    if np.ptp(inside) == 0 and np.ptp(outside) == 0:  # no noise: what rounding leaves of it must not be divided by
        contrast = float(inside[0]) - float(outside[0])
        return math.copysign(math.inf, contrast) if contrast else 0.0
    # In float64: sums of millions of float32 values lose digits that decide whether two engines agree.
    contrast = float(inside.mean(dtype=np.float64) - outside.mean(dtype=np.float64))
    return contrast / math.sqrt(float(inside.var(dtype=np.float64) + outside.var(dtype=np.float64)))


def intersection_over_union(similarity_map: NDArray[np.float32], mask: NDArray[np.bool_], threshold: float) -> float:
    """IoU of the boxes with the pixels whose cosine is above a threshold.

    Args:
        similarity_map: float32, any shape; NaN is left out.
        mask: bool, the same shape, True inside the boxes.
        threshold: of the cosine.

    Returns:
        A share in [0, 1], 0 if no pixel is above the threshold; NaN if nothing is inside the boxes.
    """
    seen = np.isfinite(similarity_map)
    inside = mask & seen
    if not inside.any():
        return math.nan
    found = similarity_map > threshold  # False for NaN
    return float(np.count_nonzero(found & inside) / np.count_nonzero(found | inside))


def pointing_game(similarity_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Whether the map's maximum lies inside the boxes.

    All pixels of a patch have the same value. Of several pixels that share the maximum one is taken to be drawn at
    random, so that a patch on the edge of a box counts by its share inside, and a constant map scores chance.

    Args:
        similarity_map: float32, any shape; NaN is left out.
        mask: bool, the same shape, True inside the boxes.

    Returns:
        The probability of a hit, in [0, 1]; NaN if nothing is inside the boxes.
    """
    seen = np.isfinite(similarity_map)
    if not (mask & seen).any():
        return math.nan
    strongest = similarity_map == similarity_map[seen].max()
    return float(np.count_nonzero(strongest & mask) / np.count_nonzero(strongest))
