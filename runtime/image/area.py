"""Resizing as OpenCV's INTER_AREA does it, to the byte.

Each new pixel is the mean of the area that it covers. Where a side does not shrink, OpenCV takes neighbours linearly
instead, with weights of its own.

Source: OpenCV 4, `modules/imgproc/src/resize.cpp` (`computeResizeAreaTab`, `ResizeArea_Invoker`,
`ResizeAreaFast_Invoker`, and `resizeGeneric_` with `area_mode`), in the order of its operations in float32; builds that
fuse products and sums, for processors other than x86-64, may differ by one level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["resize_area"]

_WHITE = 255
_THIN = 1e-3  # shares of a pixel below it are left out
_FIXED_POINT = 2048


def resize_area(
    pixels: NDArray[np.uint8], size: tuple[int, int], extent: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Resize an image.

    Args:
        pixels: uint8 (height, width) or (height, width, channels).
        size: new width and height.
        extent: width and height of the part, from the left and top, that is resized; None for all of it.

    Returns:
        uint8 (height, width) or (height, width, channels).
    """
    height, width = pixels.shape[:2]
    if (width, height) == size and extent is None:
        return pixels
    # The inverse of a ratio, as OpenCV computes it; a ratio itself may differ in its last bit.
    if extent is None:
        across, down = 1.0 / (size[0] / width), 1.0 / (size[1] / height)
    else:
        across, down = extent[0] / size[0], extent[1] / size[1]
    if across < 1 or down < 1:
        return _enlarged(pixels, size, (across, down))
    epsilon = np.finfo(np.float64).eps
    whole = round(across), round(down)
    if abs(across - whole[0]) < epsilon and abs(down - whole[1]) < epsilon:
        return _whole_pixels(pixels, size, whole)
    columns, rows = _shares(width, size[0], across), _shares(height, size[1], down)
    # Every source row shrinks by itself, then rows are added up.
    return np.clip(np.rint(_weighed(_weighed(pixels, columns, 1), rows, 0)), 0, _WHITE).astype(np.uint8)


@dataclass(frozen=True)
class _Shares:
    """Of each new pixel along an axis the old ones under it.

    Attributes:
        sources: indices, (most, new).
        weights: float32 (most, new); 0 where fewer lie under it.
    """

    sources: NDArray[np.intp]
    weights: NDArray[np.float32]


def _shares(old: int, new: int, scale: float) -> _Shares:
    found: list[list[tuple[int, float]]] = []
    for index in range(new):
        start = index * scale
        end = start + scale
        covered = min(scale, old - start)
        last = min(int(np.floor(end)), old - 1)
        first = min(int(np.ceil(start)), last)
        parts = [(first - 1, (first - start) / covered)] if first - start > _THIN else []
        parts += [(source, 1.0 / covered) for source in range(first, last)]
        if end - last > _THIN:
            parts.append((last, min(end - last, 1.0, covered) / covered))
        found.append(parts)
    most = max(map(len, found))
    sources, weights = np.zeros((most, new), np.intp), np.zeros((most, new), np.float32)
    for index, parts in enumerate(found):
        for place, (source, weight) in enumerate(parts):
            sources[place, index], weights[place, index] = source, weight
    return _Shares(sources, weights)


def _weighed(values: NDArray[np.uint8] | NDArray[np.float32], shares: _Shares, axis: int) -> NDArray[np.float32]:
    """Sums along an axis, one old pixel after the other: float32 is not associative."""
    shape = [1] * values.ndim
    shape[axis] = -1
    total: NDArray[np.float32] | None = None
    for sources, weights in zip(shares.sources, shares.weights, strict=True):
        product = values.take(sources, axis).astype(np.float32)
        product *= weights.reshape(shape)
        if total is None:
            total = product
        else:
            total += product
    assert total is not None
    return total


def _whole_pixels(pixels: NDArray[np.uint8], size: tuple[int, int], scale: tuple[int, int]) -> NDArray[np.uint8]:
    """Means of blocks, whose sums are whole numbers."""
    (width, height), (across, down) = size, scale
    blocks = pixels[: height * down, : width * across].reshape(height, down, width, across, *pixels.shape[2:])
    sums = blocks.sum(axis=(1, 3), dtype=np.int64)
    if scale == (2, 2):  # has code of its own, which rounds halves up
        return np.asarray((sums + 2) >> 2, dtype=np.uint8)
    return np.asarray(np.rint(sums.astype(np.float32) * np.float32(1.0 / (across * down))), dtype=np.uint8)


def _enlarged(pixels: NDArray[np.uint8], size: tuple[int, int], scale: tuple[float, float]) -> NDArray[np.uint8]:
    """Two neighbours along each axis, in fixed point."""
    (left, right), (one, other) = _neighbours(pixels.shape[1], size[0], scale[0])
    shape = (1, -1) + (1,) * (pixels.ndim - 2)
    wide = pixels.astype(np.int64)
    rows = wide.take(left, 1) * one.reshape(shape) + wide.take(right, 1) * other.reshape(shape)
    (above, below), (one, other) = _neighbours(pixels.shape[0], size[1], scale[1])
    shape = (-1,) + (1,) * (pixels.ndim - 1)
    upper = (one.reshape(shape) * (rows.take(above, 0) >> 4)) >> 16
    lower = (other.reshape(shape) * (rows.take(below, 0) >> 4)) >> 16
    return np.asarray((upper + lower + 2) >> 2, dtype=np.uint8)


def _neighbours(
    old: int, new: int, scale: float
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Of each new pixel two old ones, and their weights in 1/2048."""
    index = np.arange(new)
    first = np.floor(index * scale).astype(np.intp)
    share = ((index + 1) - (first + 1) * (1.0 / scale)).astype(np.float32)
    share = np.where(share <= 0, np.float32(0), share - np.floor(share))
    share[first >= old - 1] = 0
    first = np.minimum(first, old - 1)
    fixed = [np.rint(each * np.float32(_FIXED_POINT)).astype(np.int64) for each in (np.float32(1) - share, share)]
    return (first, np.minimum(first + 1, old - 1)), (fixed[0], fixed[1])
