"""Images in batches: how they are computed, and what becomes of each batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Session
from runtime.errors import Fault
from runtime.image.given_images import ImageLike

__all__ = ["Batch", "Way", "cut", "repeated", "shifted", "split"]


@dataclass(frozen=True)
class Way:
    """How images are computed: calls of the session side by side, threads that decode for each, images per call."""

    session: Session
    streams: int
    decoders: int
    size: int


@dataclass(frozen=True)
class Batch:
    """Some images in a row, and what became of them."""

    start: int
    count: int
    embeddings: NDArray[np.float32] | None
    faults: list[Fault]


def cut(pixels: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    """Prepared images, at most so many at a time; views."""
    for start in range(0, len(pixels), size):
        yield pixels[start : start + size]


def split(images: Iterable[ImageLike], size: int) -> Iterator[tuple[int, list[ImageLike]]]:
    """Images, at most so many at a time, with the number of the first."""
    start = 0
    remaining = iter(images)
    while batch := list(islice(remaining, size)):
        yield start, batch
        start += len(batch)


def shifted(faults: list[Fault], start: int) -> list[Fault]:
    """Faults of a batch that begins at this number."""
    return [Fault(start + fault.index, fault.name, fault.reason) for fault in faults]


def repeated(faults: Sequence[Fault], places: Sequence[int]) -> list[Fault]:
    """Faults of different images → those of all that were given; `places` says where each is among the different."""
    by_place = {fault.index: fault for fault in faults}
    return [replace(by_place[place], index=index) for index, place in enumerate(places) if place in by_place]
