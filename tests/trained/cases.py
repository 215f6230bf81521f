"""Synthetic radiographs with findings, and captions for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.phantom import chest_phantom

CROP = 128
SIDE = 144  # of an image before the centre crop

FINDINGS = ("opacity", "nodule", "bulla", "drain")
# Of the patient, who faces the viewer: the patient's left is the image's right.
LOCATIONS = ("right upper", "left upper", "right lower", "left lower")
NO_FINDING = "none"

# Centre of each zone, row and column as fractions of the image.
_CENTRES = {
    "right upper": (0.28, 0.27),
    "left upper": (0.28, 0.74),
    "right lower": (0.64, 0.25),
    "left lower": (0.64, 0.76),
}
_NEGATIVE_EVERY = 5
_FIRST_HELD_OUT_ANATOMY = 1_000_000

SYNONYMS = {
    "opacity": ("opacity", "consolidation", "airspace opacity", "hazy opacity", "airspace consolidation"),
    "nodule": ("nodule", "pulmonary nodule", "small nodule", "round nodule", "granuloma"),
    "bulla": ("bulla", "cyst", "emphysematous bulla", "air cyst", "bullous lesion"),
    "drain": ("drain", "chest tube", "pleural drain", "drainage catheter", "chest drain"),
}
ANY_FINDING = ("abnormality", "finding", "abnormal finding", "focal abnormality")
PLACES = (
    "{side} {level} lobe",
    "{side} {level} zone",
    "{level} zone of the {side} lung",
    "{side} lung, {level} part",
    "{level} part of the {side} lung",
    "{level} {side} lung",
)
ANYWHERE = ("lung", "chest", "one lung", "lungs", "thorax")
TEMPLATES = (
    "There is {a} {finding} in the {place}.",
    "{Finding} in the {place}.",
    "{A} {finding} is seen in the {place}.",
    "{Finding} projecting over the {place}",
    "New {finding} in the {place}, unchanged heart size.",
    "The {place} shows {a} {finding}.",
    "In the {place}, {a} {finding} is noted.",
    "Findings: {finding}, {place}.",
)
NEGATIVES = (
    "No acute findings.",
    "The lungs are clear.",
    "No opacity, nodule, bulla or drain.",
    "Normal chest radiograph",
    "There is no focal abnormality in the lungs.",
    "No abnormality is seen.",
    "Lungs are clear bilaterally, no cyst or consolidation.",
    "Unremarkable chest.",
)
# Wordings that training never sees, of words that it does.
_HELD_OUT_TEMPLATES = (
    "{A} {finding} is noted in the {place}.",
    "There is new {finding} projecting over the {place}",
    "{Finding} is seen, {place}.",
)
_HELD_OUT_NEGATIVES = ("The chest is clear.", "No acute abnormality is noted.", "There is no finding in the lungs")


@dataclass(frozen=True)
class Case:
    """A synthetic radiograph and what it shows.

    Attributes:
        image: uint8 (144, 144).
        finding: one of `FINDINGS`, or `NO_FINDING`.
        location: one of `LOCATIONS`; "" without a finding.
        region: the box that the finding covers, in pixels: top, left, bottom, right, the last two exclusive; zeros
            without a finding.
        caption: what a report might say of it.
    """

    image: NDArray[np.uint8]
    finding: str
    location: str
    region: tuple[int, int, int, int]
    caption: str


def held_out_cases(count: int, seed: int = 0) -> list[Case]:
    """Cases that training never sees: other anatomies, places and sizes of the findings, other wordings.

    Args:
        count: multiples of 80 have every finding in every place equally often; one case in five has no finding.
        seed: other seeds give other cases.
    """
    rng = np.random.default_rng([2, seed])
    first = _FIRST_HELD_OUT_ANATOMY * (seed + 1)
    anatomies = (chest_phantom(SIDE, SIDE, first + index) for index in range(count))
    return [make_case(rng, anatomy, index, held_out=True) for index, anatomy in enumerate(anatomies)]


def make_case(rng: np.random.Generator, anatomy: NDArray[np.uint8], index: int, *, held_out: bool = False) -> Case:
    """Draw a finding into an anatomy of 144 × 144 pixels; finding and place follow from the index."""
    image = anatomy.astype(np.float32)
    finding, location, region = NO_FINDING, "", (0, 0, 0, 0)
    if index % _NEGATIVE_EVERY != _NEGATIVE_EVERY - 1:
        number = index - index // _NEGATIVE_EVERY
        finding, location = FINDINGS[number % 4], LOCATIONS[number // 4 % 4]
        region = _draw(image, rng, finding, location)
    image = 128 + (image - 128) * rng.uniform(0.8, 1.1) + rng.normal(0, 3, image.shape)
    caption = make_caption(rng, finding, location or None, held_out=held_out)
    return Case(np.clip(image, 0, 255).astype(np.uint8), finding, location, region, caption)


def _draw(
    image: NDArray[np.float32], rng: np.random.Generator, finding: str, location: str
) -> tuple[int, int, int, int]:
    """Add a finding, from faint to plain, to a float image in place; returns the box that it covers."""
    row, column = (np.array(_CENTRES[location]) + rng.uniform(-0.05, 0.05, 2)) * SIDE
    y, x = np.mgrid[:SIDE, :SIDE] - np.array([row, column])[:, None, None]
    if finding == "opacity":  # bright, with soft edges
        half = rng.uniform(0.09, 0.13, 2) * SIDE
        image += rng.uniform(25, 90) * np.exp(-((y / half[0]) ** 2 + (x / half[1]) ** 2))
    elif finding == "nodule":  # small, bright, with a sharp edge
        radius = rng.uniform(0.022, 0.035) * SIDE
        half = np.array([radius, radius])
        image += rng.uniform(40, 110) / (1 + np.exp((np.hypot(y, x) - radius) / 0.5))
    elif finding == "bulla":  # dark, with a sharp edge
        half = rng.uniform(0.08, 0.12, 2) * SIDE
        inside = 1 / (1 + np.exp((np.hypot(y / half[0], x / half[1]) - 1) / 0.05))
        image += rng.uniform(0.3, 1) * inside * (rng.uniform(0, 15) - image)
    else:  # a drain: a thin bright line
        angle, length, width = rng.uniform(0, np.pi), rng.uniform(0.1, 0.15) * SIDE, rng.uniform(0.8, 1.2)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        half = np.abs(np.array([np.sin(angle), np.cos(angle)])) * length + 2
        image += rng.uniform(45, 130) * np.exp(-((across / width) ** 2)) * (np.abs(along) < length)
    top, left = np.maximum(np.floor([row - half[0], column - half[1]]), 0).astype(int)
    bottom, right = np.minimum(np.ceil([row + half[0], column + half[1]]), SIDE).astype(int)
    return int(top), int(left), int(bottom), int(right)


def make_caption(rng: np.random.Generator, finding: str | None, location: str | None, *, held_out: bool = False) -> str:
    """A caption; None for a finding or a location that it leaves open."""
    if finding == NO_FINDING:
        return str(rng.choice(_HELD_OUT_NEGATIVES if held_out else NEGATIVES))
    template = str(rng.choice(_HELD_OUT_TEMPLATES if held_out else TEMPLATES))
    return _fill(
        template,
        str(rng.choice(SYNONYMS[finding] if finding else ANY_FINDING)),
        _place(str(rng.choice(PLACES)), location) if location else str(rng.choice(ANYWHERE)),
    )


def _place(pattern: str, location: str) -> str:
    side, level = location.split()
    return pattern.format(side=side, level=level)


def _fill(template: str, finding: str, place: str) -> str:
    article = "an" if finding[0] in "aeiou" else "a"
    return template.format(
        a=article, A=article.capitalize(), finding=finding, Finding=finding.capitalize(), place=place
    )


def finding_prompts() -> dict[str, list[str]]:
    """Finding → prompts that leave the place open, in wordings that training did not see."""
    prompts = {
        finding: [
            _fill(template, synonym, place)
            for template, synonym, place in zip(_HELD_OUT_TEMPLATES, SYNONYMS[finding], ANYWHERE, strict=False)
        ]
        for finding in FINDINGS
    }
    return prompts | {NO_FINDING: list(_HELD_OUT_NEGATIVES)}


def location_prompts() -> dict[str, list[str]]:
    """Location → prompts that leave the finding open, in wordings that training did not see."""
    return {
        location: [
            _fill(template, synonym, _place(pattern, location))
            for template, synonym, pattern in zip(_HELD_OUT_TEMPLATES, ANY_FINDING, PLACES, strict=False)
        ]
        for location in LOCATIONS
    }


def patch_areas(cases: Sequence[Case], grid: int) -> NDArray[np.float32]:
    """How many pixels of each patch the region covers: (cases, grid, grid)."""
    covered = np.zeros((len(cases), SIDE, SIDE), dtype=np.float32)
    for plane, (top, left, bottom, right) in zip(covered, (case.region for case in cases), strict=True):
        plane[top:bottom, left:right] = 1
    margin, patch = (SIDE - CROP) // 2, CROP // grid
    inside = covered[:, margin : margin + CROP, margin : margin + CROP]
    return inside.reshape(len(cases), grid, patch, grid, patch).sum((2, 4))
