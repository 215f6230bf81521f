"""Images in batches: how they are computed, and what becomes of each batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Session
from runtime.errors import Fault

__all__ = ["Batch", "Way", "cut", "repeated", "run", "shifted", "split"]

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Way:
    """How images are computed: in bulk or not, calls side by side, threads that decode for each, images per call."""

    bulk: bool
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
    session: Session, feeds: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str], size: int, whole: bool
) -> list[NDArray[np.float32]]:
    """Compute batch by batch: more at a time are no faster and take more memory, which a GPU may not have.

    Args:
        session: of the graph.
        feeds: input → uint8 (N, …), as the graph reads it.
        outputs: names.
        size: rows per call.
        whole: whether every call has so many: the last is filled up with black.

    Returns:
        Each output for all rows.
    """
    found = []
    batches = {name: list(cut(pixels, size)) or [pixels] for name, pixels in feeds.items()}
    for parts in zip(*batches.values(), strict=True):
        count = len(parts[0])
        given = [_filled(each, size) if whole and count < size else each for each in parts]
        found.append([array[:count] for array in session.run(outputs, dict(zip(batches, given, strict=True)))])
    return found[0] if len(found) == 1 else [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _filled(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    filled = np.zeros((size, *pixels.shape[1:]), pixels.dtype)
    filled[: len(pixels)] = pixels
    return filled


def split(items: Iterable[_Item], size: int) -> Iterator[tuple[int, list[_Item]]]:
    """Items, at most so many at a time, with the number of the first."""
    start = 0
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield start, batch
        start += len(batch)


def shifted(faults: list[Fault], start: int) -> list[Fault]:
    """Faults of a batch that begins at this number."""
    return [replace(fault, index=start + fault.index) for fault in faults]


def repeated(faults: Sequence[Fault], places: Sequence[int]) -> list[Fault]:
    """Faults of different images → those of all that were given; `places` says where each is among the different."""
    by_place: dict[int, list[Fault]] = defaultdict(list)
    for fault in faults:
        by_place[fault.index].append(fault)
    return [replace(fault, index=index) for index, place in enumerate(places) for fault in by_place.get(place, ())]
