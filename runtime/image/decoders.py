"""Files → stored pixel values, one small function per format.

Source: hi-ml-multimodal, `image/data/io.py` (`load_image`), which reads PNG and JPEG through imageio's Pillow plugin,
DICOM through pydicom (see `dicom.py`), and NIfTI through SimpleITK.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from runtime.errors import DecodeError, MissingExtraError
from runtime.files.formats import HEAD_BYTES, SUPPORTED_FORMATS, Source, opened, read_head, recognize
from runtime.image.bounds import TOO_LARGE, Bounds
from runtime.image.dicom import read_dicom
from runtime.image.dicom_options import DicomOptions
from runtime.process.notices import Notice
from runtime.process.silence import SILENCE

__all__ = [
    "DecodeError",
    "Stored",
    "look_at_file",
    "read_array",
    "read_stored",
    "usual_mode",
]

_GZIP = b"\x1f\x8b"
_NIFTI_2_SIZE = 540  # of the header, which begins with it
_PIL_FORMATS = ("PNG", "JPEG")
# By name, for files whose first bytes say nothing: their readers know best what is wrong with them.
_READERS = {".dcm": "dicom", ".dicom": "dicom", ".nii": "nifti", ".nii.gz": "nifti"}
_NAMES = {"dicom": "DICOM", "nifti": "NIfTI"}
_BYTES_HINT = ". Bytes are what is in a file; its path is a str or a pathlib.Path"
_NO_HEADER = "begins as a PNG or a JPEG file does, but is broken or cut off before its first pixel"

Values: TypeAlias = "Image.Image | NDArray[Any]"


class Stored(NamedTuple):
    """What a file holds.

    Attributes:
        values: a loaded Pillow image of mode L, LA, RGB, RGBA or of one deeper channel, or an array (H, W) or
            (H, W, channels).
        size: width and height in pixels of the image in the file, which `values` may be a reduction of; None where
            `values` says it.
        notices: what a user should know of the file.
    """

    values: Values
    size: tuple[int, int] | None = None
    notices: tuple[Notice, ...] = ()


def read_stored(
    source: Source,
    dicom: DicomOptions,
    needed: Callable[[int, int], tuple[int, int]] | None = None,
    *,
    any_mode: bool = False,
    bounds: Bounds | None = None,
) -> Stored:
    """Read the stored pixel values of a file; the format is recognised by content, then by name.

    Args:
        source: path of a JPEG, PNG, DICOM or NIfTI file, or its bytes.
        dicom: how a DICOM file is read.
        needed: from width and height to those that are needed: decode a JPEG file to a half, a quarter or an eighth, as
            long as it keeps so many pixels; other formats are not affected. None decodes all of it.
        any_mode: leave Pillow images in the mode in which they are stored, such as with a palette.
        bounds: of a file from a stranger; None decodes whatever it is.

    Raises:
        DecodeError: no such file, unknown format, broken content, beyond the bounds.
        MissingExtraError: the format needs an optional package.
    """
    reader = _reader(source, bounds)
    try:
        if reader == "dicom":
            values, notices = read_dicom(source, dicom, bounds)
            return Stored(values, notices=notices)
        if reader == "nifti":
            return Stored(_read_nifti(source, bounds))
        with _opened_image(source, bounds) as image:
            size = image.size
            if needed is not None:
                image.draft(None, needed(*size))
            image.load()
            return Stored(image if any_mode else usual_mode(image), size if image.size != size else None)
    except (DecodeError, MissingExtraError):
        raise
    except UnidentifiedImageError:
        raise DecodeError(_NO_HEADER) from None
    except Exception as error:  # decoders raise many unrelated types on broken content
        if bounds is not None:
            raise DecodeError(_undetailed(error)) from None
        raise DecodeError(f"cannot be decoded ({type(error).__name__}: {error})") from error


def _opened_image(source: Source, bounds: Bounds | None) -> Image.Image:
    """A PNG or JPEG file of which nothing but the header was read; of an animated PNG the first frame."""
    if bounds is None:
        return Image.open(opened(source), formats=_PIL_FORMATS)
    try:
        with SILENCE:  # Pillow warns from 89 million pixels on, whatever was asked for
            image = Image.open(opened(source), formats=[name for name in _PIL_FORMATS if name in bounds.formats])
    except Image.DecompressionBombError:
        raise DecodeError(f"has more than {bounds.pixels:,} pixels by its header, the most that are accepted") from None
    try:
        bounds.check_size(*image.size)
    except DecodeError:
        image.close()
        raise
    return image


def _undetailed(error: Exception) -> str:
    """A reason without a decoder's own words, which may quote the file."""
    if isinstance(error, MemoryError):
        return TOO_LARGE
    return f"cannot be decoded: it is broken or cut off ({type(error).__name__})"


def read_array(path: Path, dicom: DicomOptions) -> NDArray[Any]:
    """Read the stored pixel values of a file as an array: (H, W) or (H, W, channels), any integer or float dtype.

    Args:
        path: see `read_stored`.
        dicom: see `read_stored`.

    Raises:
        DecodeError: as for `read_stored`.
        MissingExtraError: as for `read_stored`.
    """
    return np.asarray(read_stored(path, dicom).values)


def look_at_file(source: Source) -> None:
    """Raise what can be known of a file without decoding it: that it is not there, or not of a known format.

    Raises:
        DecodeError: no such file, unknown format.
    """
    if _reader(source) != "pillow":
        return
    try:
        Image.open(opened(source), formats=_PIL_FORMATS).close()
    except UnidentifiedImageError:
        raise DecodeError(_NO_HEADER) from None
    except Exception as error:
        raise DecodeError(f"cannot be decoded ({type(error).__name__}: {error})") from error


def _reader(source: Source, bounds: Bounds | None = None) -> str:
    """Which reader a file is for: by its first bytes, or where these say nothing by its name."""
    supported = SUPPORTED_FORMATS if bounds is None else bounds.accepted
    try:
        head = read_head(source) if isinstance(source, Path) else source[:HEAD_BYTES]
    except FileNotFoundError:
        raise DecodeError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise DecodeError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    found = recognize(head)
    if found is not None and found.reader is not None:
        if bounds is not None:
            bounds.check_format(found.name)
        return found.reader
    if head.startswith(_GZIP):
        raise DecodeError("is compressed with gzip, which is read of NIfTI files only; decompress it first (gunzip)")
    if found is not None:
        raise DecodeError(f"is {found.name}, which is not read here; supported are {supported}")
    for suffix, reader in _READERS.items():
        if isinstance(source, Path) and source.name.lower().endswith(suffix):
            if bounds is not None:
                bounds.check_format(_NAMES[reader])
            return reader
    if not head:
        raise DecodeError("is empty (0 bytes)")
    hint = "" if isinstance(source, Path) or bounds else _BYTES_HINT
    raise DecodeError(f"not an image of a known format; supported are {supported}{hint}")


def usual_mode(image: Image.Image) -> Image.Image:
    """A Pillow image in the mode in which imageio hands it to the reference.

    Palettes are resolved, 16-bit greyscale stays 16-bit, alpha is kept as a channel (the reference's min-max remap sees
    it), CMYK becomes RGB, and EXIF orientation is not applied.
    """
    if image.mode in ("P", "PA") and image.palette is not None:
        return image.convert(image.palette.mode)
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        return image.convert("RGB")
    return image.convert("L") if image.mode == "1" else image


def _read_nifti(source: Source, bounds: Bounds | None) -> NDArray[Any]:
    try:
        import nibabel
    except ImportError:
        what = f"Reading the NIfTI file {source}" if isinstance(source, Path) else "Reading NIfTI"
        raise MissingExtraError(what, "nibabel", "nifti") from None
    # By content: nibabel itself goes by the name, and refuses a compressed file called .nii or one without a suffix.
    compressed = (read_head(source) if isinstance(source, Path) else source).startswith(_GZIP)
    file = source.open("rb") if isinstance(source, Path) else BytesIO(source)
    with file, gzip.open(file) if compressed else nullcontext(file) as whole:
        stream: Any = whole if bounds is None else _bounded(whole, bounds)
        size = stream.read(4)
        stream.seek(0)
        second = _NIFTI_2_SIZE in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
        image = (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_stream(stream)
        if bounds is not None:
            width, *others = (int(length) for length in image.shape)
            bounds.check_size(width, math.prod(others), sample_bytes=image.get_data_dtype().itemsize)
        # nibabel's axes are (x, y, z); the reference's SimpleITK gives (z, y, x) and drops a first axis of length 1.
        volume: NDArray[Any] = np.asarray(image.dataobj).T
    return volume[0] if volume.ndim > 2 and volume.shape[0] == 1 else volume


def _bounded(stream: Any, bounds: Bounds) -> BytesIO:
    content = stream.read(bounds.most_bytes + 1)
    if len(content) > bounds.most_bytes:
        raise DecodeError(f"has, or inflates to, more than {bounds.most_bytes:,} bytes, the most that is accepted")
    return BytesIO(content)
