"""Synthetic radiographs with findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.samples import chest_phantom
from tests.trained.wordings import FINDINGS, LOCATIONS, NO_FINDING, make_caption

CROP = 128
SIDE = 144  # of an image before the centre crop

# Centre of each zone, row and column as fractions of the image.
_CENTRES = {
    "right upper": (0.28, 0.27),
    "left upper": (0.28, 0.74),
    "right lower": (0.64, 0.25),
    "left lower": (0.64, 0.76),
}
_NEGATIVE_EVERY = 5
_FIRST_HELD_OUT_ANATOMY = 1_000_000


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


def patch_areas(cases: Sequence[Case], grid: int) -> NDArray[np.float32]:
    """How many pixels of each patch the region covers: (cases, grid, grid)."""
    covered = np.zeros((len(cases), SIDE, SIDE), dtype=np.float32)
    for plane, (top, left, bottom, right) in zip(covered, (case.region for case in cases), strict=True):
        plane[top:bottom, left:right] = 1
    margin, patch = (SIDE - CROP) // 2, CROP // grid
    inside = covered[:, margin : margin + CROP, margin : margin + CROP]
    return inside.reshape(len(cases), grid, patch, grid, patch).sum((2, 4))
