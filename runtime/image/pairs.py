"""Current images with previous ones: as callers give them, decoded, and what is wrong with either."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.errors import Fault, InputError
from runtime.image.given_images import ImageLike, taken_images
from runtime.image.images import Pixels, look_at

__all__ = ["Pair", "load_pairs", "look_at_pairs", "with_previous"]

# A current image, and the previous one where there is one.
Pair: TypeAlias = tuple[ImageLike, "ImageLike | None"]
_END = object()
_Load: TypeAlias = Callable[[list[ImageLike]], tuple[list[Pixels], list[Fault]]]


def with_previous(images: Iterable[ImageLike], previous: Any) -> Iterator[Pair]:
    """Each image with its previous one, as they are taken.

    Args:
        images: current ones.
        previous: as many, None (or NaN, as tables have it) for those without; of a single image the previous one
            itself; None where no image has any.

    Raises:
        InputError: there are more of one than of the other, said when that is found; or no images.
    """
    if previous is None:
        yield from ((image, None) for image in images)
        return
    found, _ = taken_images(previous)
    images, before = _counted(images), _counted(found)
    pairs: Iterator[tuple[Any, Any]] = zip_longest(images, before, fillvalue=_END)
    for index, (image, other) in enumerate(pairs):
        if image is _END or other is _END:
            sizes = [str(len(each)) if isinstance(each, list) else f"at least {index}" for each in (before, images)]
            raise InputError(
                f"{sizes[0]} previous images came for {sizes[1]} current ones; one for each is expected, None where "
                "there is none."
            )
        yield image, None if other is None or (isinstance(other, float) and math.isnan(other)) else other


def _counted(images: Iterable[Any]) -> Iterable[Any]:
    return list(images) if isinstance(images, Sequence) else images


def load_pairs(
    load: _Load, pairs: Sequence[Pair]
) -> tuple[list[NDArray[np.uint8]], Mapping[int, NDArray[np.uint8]], list[Fault]]:
    """Decode both images of each pair.

    Args:
        load: images → the usable ones in order, and a fault for each of the others.
        pairs: what to decode.

    Returns:
        Pixels of the current images of pairs that are usable; the place among these of each that has a previous image →
        that image's pixels; and the faults, of which `index` is the pair's.
    """
    images, places = _flat(pairs)
    loaded, faults = load(images)
    bad, usable = {fault.index for fault in faults}, iter(loaded)
    found = [None if index in bad else next(usable).pixels for index in range(len(images))]
    faults = _of_pairs(faults, places, len(pairs))
    dropped = {fault.index for fault in faults}
    kept = {index: place for place, index in enumerate(index for index in range(len(pairs)) if index not in dropped)}
    before = {
        kept[index]: pixels
        for index, pixels in zip(places, found[len(pairs) :], strict=True)
        if index in kept and pixels is not None
    }
    return [pixels for index in kept if (pixels := found[index]) is not None], before, faults


def look_at_pairs(pairs: Sequence[Pair]) -> list[Fault]:
    """Name the files that are missing or of an unknown format, without decoding any; `index` is the pair's."""
    images, places = _flat(pairs)
    return _of_pairs(look_at(images), places, len(pairs))


def _flat(pairs: Sequence[Pair]) -> tuple[list[ImageLike], list[int]]:
    """All images, the current ones first, and of each previous one the pair that it is of."""
    places = [index for index, (_, previous) in enumerate(pairs) if previous is not None]
    previous = [previous for _, previous in pairs if previous is not None]
    return [*(image for image, _ in pairs), *previous], places


def _of_pairs(faults: Sequence[Fault], places: Sequence[int], count: int) -> list[Fault]:
    """Faults of `_flat` images → those of their pairs, in order."""
    found = [
        fault
        if fault.index < count
        else replace(fault, index=places[fault.index - count], name=f"{fault.name} (the previous image)")
        for fault in faults
    ]
    return sorted(found, key=lambda fault: fault.index)
