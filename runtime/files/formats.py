"""What a file is, by its first bytes; what its name claims, where these do not tell.

Archives name their files as they like: `IM000001`, a UID with dots, `.jpg` for a PNG. Folders, patterns, decoders and
the messages about what cannot be read all ask here.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

__all__ = [
    "HEAD_BYTES",
    "SUPPORTED_FORMATS",
    "Format",
    "Source",
    "is_supported_name",
    "opened",
    "read_head",
    "recognize",
]

SUPPORTED_FORMATS = "JPEG, PNG, DICOM (extra 'dicom') and NIfTI (extra 'nifti')"
# A file by its path, or what is in it.
Source: TypeAlias = "Path | bytes"
# Enough for DICOM's mark at 128, its file meta information, and NIfTI's mark at 344 behind gzip's own header.
HEAD_BYTES = 1024

_SUFFIXES = (".jpg", ".jpeg", ".png", ".dcm", ".dicom", ".nii", ".nii.gz")


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: as in "is …" and "2 files are …": with its article where it needs one.
        reader: "pillow", "dicom" or "nifti"; None where it is not read here.
        image: whether an image is to be expected in it.
    """

    name: str
    reader: str | None = None
    image: bool = False


_PNG = Format("PNG", "pillow", True)
_JPEG = Format("JPEG", "pillow", True)
_DICOM = Format("DICOM", "dicom", True)
_DICOMDIR = Format("DICOMDIR, the list of the files on a medium", "dicom")
_NIFTI = Format("NIfTI", "nifti", True)
_NIFTI_PAIR = Format("NIfTI in two files (.hdr and .img)")
_GZIP = Format("gzip")
_TIFF = Format("TIFF")
_BMP = Format("BMP")
_JPEG_2000 = Format("JPEG 2000 without DICOM")
_JPEG_XL = Format("JPEG XL")
_HTML = Format("HTML or XML")

# First bytes → format. Longer ones stand before shorter ones that they begin with.
_MARKS: tuple[tuple[bytes, Format], ...] = (
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (b"\xff\xd8\xff\xf7", Format("JPEG-LS without DICOM")),
    (b"\xff\xd8\xff", _JPEG),
    (b"GIF87a", Format("GIF")),
    (b"GIF89a", Format("GIF")),
    (b"II*\0", _TIFF),
    (b"MM\0*", _TIFF),
    (b"II+\0", _TIFF),
    (b"MM\0+", _TIFF),
    (b"\0\0\0\x0cjP  \r\n\x87\n", _JPEG_2000),
    (b"\xff\x4f\xff\x51", _JPEG_2000),
    (b"\0\0\0\x0cJXL \r\n\x87\n", _JPEG_XL),
    (b"\xff\x0a", _JPEG_XL),
    (b"8BPS", Format("Photoshop")),
    (b"NRRD000", Format("NRRD")),
    (b"ObjectType =", Format("MetaImage")),
    (b"\x89HDF\r\n\x1a\n", Format("HDF5")),
    (b"\x93NUMPY", Format("a NumPy array")),
    (b"%PDF-", Format("PDF")),
    (b"PK\x03\x04", Format("ZIP")),
    (b"7z\xbc\xaf\x27\x1c", Format("7z")),
    (b"Rar!\x1a\x07", Format("RAR")),
    (b"BZh", Format("bzip2")),
    (b"\xfd7zXZ\0", Format("xz")),
    (b"\x28\xb5\x2f\xfd", Format("Zstandard")),
    (b"PAR1", Format("Parquet")),
    (b"version https://git-lfs.github.com/spec/", Format("a Git LFS pointer, not the file itself (git lfs pull)")),
    (b"\0\x05\x16\x07", Format("AppleDouble, macOS's notes on another file")),
)
_BOXES = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"jxl ": "JPEG XL"}

_PREAMBLE = 128
_DICOMDIR_UID = b"1.2.840.10008.1.3.10"
_MEDIA_SOP_CLASS = b"\x02\0\x02\0UI"
# Value representations whose length takes four bytes, and the others.
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_FIRST_GROUPS = (2, 8)
_LONGEST_FIRST_VALUE = 512

_NIFTI_1, _NIFTI_2 = 348, 540  # the sizes of the headers, which they begin with


def is_supported_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name claims that it is an image that can be read."""
    return os.fspath(path).lower().endswith(_SUFFIXES)


def opened(source: Source) -> Path | BytesIO:
    """What libraries take for a file: its path, or its bytes as a stream."""
    return source if isinstance(source, Path) else BytesIO(source)


def read_head(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a file, `HEAD_BYTES` at most.

    FIFOs, sockets and devices are not opened: that may wait for ever, or do something.

    Raises:
        OSError: it cannot be read, or is no regular file; `strerror` is the reason.
        ValueError: what came is no file name.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116 (called for 100,000s of files)
    if not stat.S_ISREG(mode):
        reason = "Is a directory" if stat.S_ISDIR(mode) else "It is a FIFO, a socket or a device; a file is expected"
        raise OSError(errno.EINVAL, reason)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)


def recognize(head: bytes) -> Format | None:
    """What a file is.

    Args:
        head: its first bytes, see `read_head`.

    Returns:
        None where the bytes are those of no format that is known here.
    """
    if head[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return _dicom(head[_PREAMBLE + 4 :])
    for mark, known in _MARKS:
        if head.startswith(mark):
            return known
    if head.startswith(b"\x1f\x8b"):
        return _nifti(_decompressed(head)) or _GZIP
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Format("WebP")
    if head[4:8] == b"ftyp" and head[8:12] in _BOXES:
        return Format(_BOXES[head[8:12]])
    if head.startswith(b"BM") and head[6:10] == bytes(4) and len(head) >= 26:
        return _BMP
    if _is_dataset(head):
        return _dicom(head)
    return _nifti(head) or (_HTML if _is_markup(head) else None)


def _dicom(elements: bytes) -> Format:
    at = elements.find(_MEDIA_SOP_CLASS)
    length = int.from_bytes(elements[at + 6 : at + 8], "little") if at >= 0 else 0
    return _DICOMDIR if elements[at + 8 : at + 8 + length].rstrip(b"\0") == _DICOMDIR_UID else _DICOM


def _is_dataset(head: bytes) -> bool:
    """Whether this is DICOM without preamble: two elements of groups 2 and 8 in order, each with a plausible length."""
    if head[:2] in (b"\x02\0", b"\x08\0"):
        return _are_elements(head, "<")
    return head[:2] == b"\0\x08" and _are_elements(head, ">")


def _are_elements(head: bytes, order: str) -> bool:
    try:
        first = struct.unpack_from(f"{order}HH", head)
        vr = head[4:6]
        if vr in _SHORT_VRS:
            length, start = struct.unpack_from(f"{order}H", head, 6)[0], 8
        elif vr in _LONG_VRS:
            length, start = struct.unpack_from(f"{order}I", head, 8)[0], 12
        else:
            length, start = struct.unpack_from(f"{order}I", head, 4)[0], 8
        if length % 2 or length > _LONGEST_FIRST_VALUE:
            return False
        second = struct.unpack_from(f"{order}HH", head, start + length)
    except struct.error:
        return False
    return first < second and second[0] in _FIRST_GROUPS


def _nifti(head: bytes) -> Format | None:
    size = head[:4]
    for header, at, single, pair in (
        (_NIFTI_1, 344, b"n+1\0", b"ni1\0"),
        (_NIFTI_2, 4, b"n+2\0", b"ni2\0"),
    ):
        if size in (header.to_bytes(4, "little"), header.to_bytes(4, "big")):
            mark = head[at : at + 4]
            return _NIFTI if mark == single else _NIFTI_PAIR if mark == pair else None
    return None


def _decompressed(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""


def _is_markup(head: bytes) -> bool:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:9].lower()
    return start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<svg"))
