"""Where the values lie within the words of DICOM pixel data, which may hold overlays beside them.

PS3.5, section 8.1.1: the bits of a word beside those that are stored are not to be relied on. Old files keep overlays
there, and the encoders of compressed files took them along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.image.dicom_faults import element

__all__ = ["StoredBits", "find_stored_bits"]


@dataclass(frozen=True)
class StoredBits:
    """Which bits of a word are the value.

    Attributes:
        high: the highest, from 0.
        count: how many.
        exact: the words are those that were encoded. Otherwise what lies above is the overshoot of a lossy codec at
            sharp edges, which must not wrap around to black.
    """

    high: int
    count: int
    exact: bool

    def of(self, words: NDArray[Any]) -> NDArray[Any]:
        """The values; signed ones, by the dtype, with their sign extended."""
        width = 8 * words.dtype.itemsize
        if self.exact:
            values: NDArray[Any] = (words << (width - 1 - self.high)) >> (width - self.count)
            return values
        half = 1 << (self.count - 1)
        least, most = (0, 2 * half - 1) if words.dtype.kind == "u" else (-half, half - 1)
        clipped: NDArray[Any] = np.clip(words >> (self.high + 1 - self.count), least, most)
        return clipped


def find_stored_bits(dataset: Any, precision: int | None = None, lossless: bool = True) -> StoredBits | None:
    """Which bits are the values; None where pydicom takes the right ones.

    pydicom takes the lowest, whatever HighBit says, and of JPEG 2000 and of signed JPEG-LS all that the stream has.

    Args:
        dataset: the header.
        precision: bits of a sample in a stream of the JPEG family; None where pixel data hold the words themselves.
        lossless: whether that stream is.
    """
    names = ("BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel")
    allocated, stored, high, samples = (element(dataset, name) for name in names)
    if "PixelData" not in dataset or not all(isinstance(number, int) for number in (allocated, stored)):
        return None
    words = precision or allocated
    if allocated == 1 or not 0 < stored < words or (precision and samples != 1):
        return None
    misplaced = isinstance(high, int) and stored - 1 < high < words
    if not misplaced and precision is None:
        return None
    return StoredBits(high if misplaced else stored - 1, stored, lossless)
