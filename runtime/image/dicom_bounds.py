"""Bounds on DICOM files from strangers, checked by the header before pixel data are decoded.

Of a stream of the JPEG family, size and header must agree whoever the file is from: see `codestream.py`.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

from runtime.errors import DecodeError
from runtime.image.bounds import Bounds
from runtime.image.dicom_faults import count_of

__all__ = ["check_expansion", "check_size"]

# PS3.5, annex G: a header names up to 15 segments; two bytes of a run become 128 at most.
_RLE_SEGMENTS, _RLE_GROWTH = 15, 64


def check_size(dataset: Any, bounds: Bounds) -> None:
    """Raise DecodeError where rows, columns, frames or bits are beyond the bounds, or no numbers."""
    numbers = [count_of(dataset, name) for name in ("Columns", "Rows", "NumberOfFrames")]
    samples, allocated = (count_of(dataset, name) for name in ("SamplesPerPixel", "BitsAllocated"))
    width, height, frames = (max(number or 1, 1) for number in numbers)
    bounds.check_size(width, height, frames, max(samples or 1, 1) * max((allocated or 8) // 8, 1))


def check_expansion(dataset: Any, index: int, bounds: Bounds) -> None:
    """Raise DecodeError where the runs of a frame of RLE Lossless expand beyond the bounds: pydicom expands them all.

    Args:
        dataset: with its pixel data.
        index: of the frame, from 0.
        bounds: see `Bounds`.
    """
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    if dataset.file_meta.TransferSyntaxUID != RLELossless or "PixelData" not in dataset:
        return
    frame = get_frame(dataset.PixelData, index, number_of_frames=count_of(dataset, "NumberOfFrames") or 1)
    if len(frame) * _RLE_GROWTH <= bounds.most_bytes:
        return
    (count, *offsets) = struct.unpack_from(f"<{1 + _RLE_SEGMENTS}L", frame)
    ends = [*offsets[:count], len(frame)]
    for start, end in pairwise(ends):
        if _expanded(frame[start:end], bounds.most_bytes) > bounds.most_bytes:
            raise DecodeError(f"expands to more than {bounds.most_bytes:,} bytes, the most that is accepted")


def _expanded(segment: bytes, most: int) -> int:
    """Bytes that a segment's runs become, counted up to `most`."""
    at = total = 0
    while at < len(segment) and total <= most:
        head = segment[at]
        if head < 128:
            total += head + 1
            at += head + 2
        else:
            total += 257 - head if head > 128 else 0
            at += 2 if head > 128 else 1
    return total
