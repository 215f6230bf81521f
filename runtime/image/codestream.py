"""What a JPEG, JPEG-LS or JPEG 2000 stream says of itself, and whether a DICOM header agrees.

GDCM ends the whole process (`terminate called after throwing …`) where the two differ, and other decoders take all the
memory that a broken stream asks for, so one broken file would be the end of an archive job. Nothing else is validated.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from runtime.errors import DecodeError

__all__ = ["FrameHeader", "check_codestream", "is_lossless", "read_frame_header"]

_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"
_JP2_LIMIT = 1 << 12  # a JP2 file's boxes before the stream itself, which DICOM forbids and some write
# Start-of-frame markers: all of JPEG's but DHT, JPG and DAC, and JPEG-LS's.
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_JPEG_LS_FRAME = 0xF7
_LOSSLESS_FRAMES = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_START_OF_SCAN = 0xDA
_CODING_STYLE, _START_OF_TILE = 0xFF52, 0xFF90
_REVERSIBLE = 1
# What may come before the scan: no RST, SOI, EOI, nor what no marker is.
_SEGMENTS = frozenset({*range(0xC0, 0x100)} - {*range(0xD0, 0xDA), 0xFF})
_JFIF, _ADOBE = 0xE0, 0xEE
_WRITER_MARKERS = (_JFIF, _ADOBE)
_MOST_BITS = {"JPEG": 16, "JPEG 2000": 32}
_MOST_TILES = 65535


class FrameHeader(NamedTuple):
    """What a stream says of itself."""

    kind: str
    rows: int
    columns: int
    samples: int
    bits: int


def check_codestream(dataset: Any, index: int) -> tuple[int, bool]:
    """Raise where a compressed frame and its DICOM header do not agree.

    Args:
        dataset: with the compressed pixel data, of a transfer syntax of the JPEG family.
        index: of the frame, from 0.

    Returns:
        Bits of a sample in the stream, and whether they come out as they went in.

    Raises:
        DecodeError: they differ.
        ValueError: the frame's stream has no readable header.
    """
    from pydicom.encaps import get_frame

    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    frames = int(dataset.get("NumberOfFrames") or 1)
    stream = get_frame(dataset.PixelData, index, number_of_frames=frames, extended_offsets=offsets)
    found = read_frame_header(stream)
    if found is None:
        raise ValueError("no frame header")
    allocated, stored, samples = dataset.BitsAllocated, dataset.BitsStored, dataset.SamplesPerPixel
    named = 1 if dataset.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR") else 3
    expected = FrameHeader(found.kind, dataset.Rows, dataset.Columns, samples, min(found.bits, allocated))
    whole = samples == 1 or found.kind != "JPEG" or stored == allocated
    if found != expected or samples != named or allocated > _MOST_BITS[found.kind] or not whole:
        raise DecodeError(
            f"cannot be decoded: its header says {_shown(expected._replace(bits=stored))} in {allocated}, with {named} "
            f"by their colour space; its {found.kind} stream says {_shown(found)}"
        )
    return found.bits, is_lossless(stream)


def _shown(header: FrameHeader) -> str:
    return f"{header.columns} × {header.rows} pixels of {header.samples} × {header.bits} bits"


def read_frame_header(stream: bytes) -> FrameHeader | None:
    """The header of a stream, or None where it has none that makes sense.

    Args:
        stream: a whole frame.
    """
    try:
        found = _jpeg(stream) if stream.startswith(_JPEG) else _jpeg_2000(stream)
    except (struct.error, IndexError):
        return None
    if found is None or 0 in found or not 2 <= found.bits <= _MOST_BITS[found.kind]:
        return None
    return found


def is_lossless(stream: bytes) -> bool:
    """Whether the samples of a stream come out as they went in, up to layers that were cut off.

    Args:
        stream: a whole frame, for which `read_frame_header` finds a header.
    """
    if stream.startswith(_JPEG):
        at, frame = len(_JPEG), 0
        while stream[at + 1] != _START_OF_SCAN:
            frame = stream[at + 1] if stream[at + 1] in _FRAME_MARKERS else frame
            at += 1 if stream[at + 1] == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if frame != _JPEG_LS_FRAME:
            return frame in _LOSSLESS_FRAMES
        components = stream[at + 4]
        return stream[at + 5 + 2 * components : at + 6 + 2 * components] == b"\0"  # how far samples may be off
    at = stream.find(_JPEG_2000, 0, _JP2_LIMIT) + 2
    while 0xFF00 <= (marker := int.from_bytes(stream[at : at + 2], "big")) != _START_OF_TILE:
        if marker == _CODING_STYLE:
            return stream[at + 13 : at + 14] == bytes([_REVERSIBLE])
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return False


def _jpeg(stream: bytes) -> FrameHeader | None:
    """Follow the segments up to the first scan, all of which must be where they say."""
    at, found = len(_JPEG), None
    while stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == _START_OF_SCAN:
            return found
        if marker not in _SEGMENTS:
            return None
        (length,) = struct.unpack_from(">H", stream, at + 2)
        if marker in _WRITER_MARKERS and not _is_known_writer(marker, stream[at + 4 : at + 2 + length]):
            return None
        if marker in _FRAME_MARKERS:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", stream, at + 4)
            found = FrameHeader("JPEG", rows, columns, samples, bits)
        at += 2 + length
    return None


def _is_known_writer(marker: int, segment: bytes) -> bool:
    """Whether a JFIF or Adobe segment says what libjpeg knows; GDCM ends the process where libjpeg would warn."""
    if marker == _JFIF and segment.startswith(b"JFIF\0"):
        return segment[5:6] == b"\1"
    if marker == _ADOBE and segment.startswith(b"Adobe") and len(segment) >= 12:
        return segment[11] <= 1
    return True


def _jpeg_2000(stream: bytes) -> FrameHeader | None:
    at = stream.find(_JPEG_2000, 0, _JP2_LIMIT)
    if at < 0:
        return None
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, samples = struct.unpack_from(
        ">8IH", stream, at + 8
    )
    components = {struct.unpack_from(">3B", stream, at + 42 + 3 * sample) for sample in range(samples)}
    if len(components) != 1 or not (tile_width and tile_height):
        return None
    ((depth, *steps),) = components
    tiles = -((tile_left - right) // tile_width) * -((tile_top - bottom) // tile_height)
    if steps != [1, 1] or not 0 < tiles <= _MOST_TILES:
        return None
    return FrameHeader("JPEG 2000", bottom - top, right - left, samples, (depth & 0x7F) + 1)
