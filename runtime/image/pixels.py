"""Stored values of any depth → 8 bits.

Source: hi-ml-multimodal, `image/data/io.py`. The bytes are the reference's own, though no 8-bit image passes through
float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import DecodeError

__all__ = ["remap_image", "remap_to_uint8"]

_WHITE = 255
_TABLE_LIMIT = 1 << 16
# Up to here 32 bits hold value × factor, and the factor's rounding is too small to reach the next integer.
_FIXED_POINT_LIMIT = 1 << 12
_FIXED_POINT_BITS = 24
# Values computed at a time: what they become on the way stays in the processor's cache.
_BLOCK = 1 << 16


def remap_to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch values linearly so that the smallest becomes 0 and the largest 255, truncating to integers.

    The result is that of the reference's `remap_to_uint8`, which computes every pixel in float64. For integers it
    equals floor(255 × (value - low) / (high - low)): fixed point gives it, a table where 32 bits are too few.

    Args:
        array: any shape, integer or float, at least two distinct values, finite.

    Returns:
        uint8, same shape.

    Raises:
        DecodeError: constant, or with NaN or infinity.
    """
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    low, high = _range(array)
    if array.dtype.kind in "iu" and int(high) - int(low) < _TABLE_LIMIT:
        return _remap_integers(array, low, int(high) - int(low))
    values = array.astype(np.float64)
    with np.errstate(over="ignore"):
        values -= np.float64(low)
    if not np.isfinite(values).all():
        raise DecodeError(f"has values from {low:g} to {high:g}, too far apart for float64")
    return _stretch(values)


def remap_image(image: Image.Image) -> Image.Image:
    """`remap_to_uint8` for a Pillow image of 8 bits: the least and greatest value are those of all channels together.

    Pillow keeps colours in four bytes, so a copy to numpy and back takes longer than the remapping itself.

    Args:
        image: mode "L", "LA", "RGB" or "RGBA", at least two distinct values.

    Returns:
        The same mode; the image itself if it spans 0–255 already.

    Raises:
        DecodeError: constant.
    """
    low, high = map(int, _range(np.asarray(image)))
    if (low, high) == (0, _WHITE):
        return image
    table = np.zeros(_WHITE + 1, dtype=np.uint8)
    table[low : high + 1] = _stretch(np.arange(high - low + 1, dtype=np.float64))
    return image.point(table.tolist() * len(image.getbands()))


def _range(array: NDArray[Any]) -> tuple[Any, Any]:
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DecodeError("holds NaN or infinite values; finite values are expected")
    if low == high:
        raise DecodeError(f"is constant (every value is {low}), so its values cannot be stretched to 0–255")
    return low, high


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    values /= values.max()
    values *= 255
    return values.astype(np.uint8)


def _remap_integers(array: NDArray[Any], low: Any, spread: int) -> NDArray[np.uint8]:
    remapped = np.empty(array.shape, dtype=np.uint8)
    rows = max(1, _BLOCK * len(array) // array.size)
    unsigned = f"u{array.dtype.itemsize}"
    factor = np.uint32(-(-(255 << _FIXED_POINT_BITS) // spread))
    table = None if spread <= _FIXED_POINT_LIMIT else _stretch(np.arange(spread + 1, dtype=np.float64))
    for start in range(0, len(array), rows):
        out = remapped[start : start + rows]
        # Subtraction that wraps around modulo 2**bits still gives the right offset once seen as unsigned.
        offsets = (array[start : start + rows] - low).view(unsigned)
        if table is None:
            products = offsets.astype(np.uint32)
            products *= factor
            products >>= np.uint32(_FIXED_POINT_BITS)
            np.copyto(out, products, casting="unsafe")
        else:
            np.take(table, offsets, out=out, mode="clip")  # without a mode, numpy would buffer what it writes
    return remapped
