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

__all__ = ["Batch", "Way", "cut", "repeated", "run", "shifted", "split"]


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


def run(
    session: Session, pixels: NDArray[np.uint8], outputs: Sequence[str], size: int, whole: bool
) -> list[NDArray[np.float32]]:
    """Compute batch by batch: more at a time are no faster and take more memory, which a GPU may not have.

    Args:
        session: of the graph.
        pixels: uint8 (N, …), as the graph reads them.
        outputs: names.
        size: images per call.
        whole: whether every call has so many: the last is filled up with black.

    Returns:
        Each output for all images.
    """
    found = []
    for each in cut(pixels, size) if len(pixels) else [pixels]:
        given = each
        if whole and len(each) < size:
            given = np.zeros((size, *each.shape[1:]), each.dtype)
            given[: len(each)] = each
        found.append([array[: len(each)] for array in session.run(outputs, {"pixel_values": given})])
    return found[0] if len(found) == 1 else [np.concatenate(parts) for parts in zip(*found, strict=True)]


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
