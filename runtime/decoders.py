"""Files → stored pixel values, one small function per format.

Source: hi-ml-multimodal, `image/data/io.py` (`load_image`), which reads PNG and JPEG through imageio's Pillow plugin,
DICOM through pydicom without rescale or window, and NIfTI through SimpleITK.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from runtime.errors import MissingExtraError

__all__ = [
    "SUPPORTED_FORMATS",
    "DecodeError",
    "Stored",
    "is_supported_name",
    "look_at_file",
    "read_array",
    "read_stored",
    "usual_mode",
]

SUPPORTED_FORMATS = "JPEG, PNG, DICOM (extra 'dicom') and NIfTI (extra 'nifti')"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".dcm", ".dicom", ".nii", ".nii.gz")
_DICOM_PREAMBLE = 128
_PIL_FORMATS = ("PNG", "JPEG")

Values: TypeAlias = "Image.Image | NDArray[Any]"


class DecodeError(ValueError):
    """A file that cannot be read as an image; the message is the reason."""


def is_supported_name(path: Path) -> bool:
    """Whether a file's name looks like an image that `read_array` reads; used to pick files from folders."""
    return path.name.lower().endswith(_SUFFIXES)


class Stored(NamedTuple):
    """What a file holds.

    Attributes:
        values: a loaded Pillow image of mode L, LA, RGB, RGBA or of one deeper channel, or an array (H, W) or
            (H, W, channels).
        size: width and height in pixels of the image in the file, which `values` may be a reduction of; None where
            `values` says it.
    """

    values: Values
    size: tuple[int, int] | None = None


def read_stored(path: Path, invert_monochrome1: bool, shorter_side: int | None = None) -> Stored:
    """Read the stored pixel values of a file; the format is recognised by content, then by name.

    Args:
        path: a JPEG, PNG, DICOM or NIfTI file.
        invert_monochrome1: turn DICOM with photometric interpretation MONOCHROME1 (0 is white) the right way up.
        shorter_side: decode a JPEG file to a half, a quarter or an eighth, as long as its shorter side keeps so many
            pixels; other formats are not affected. None decodes all of it.

    Raises:
        DecodeError: no such file, unknown format, broken content.
        MissingExtraError: the format needs an optional package.
    """
    head = _read_head(path)
    try:
        if _is_dicom(path, head):
            return Stored(_read_dicom(path, invert_monochrome1))
        if _is_nifti(path):
            return Stored(_read_nifti(path))
        with Image.open(path, formats=_PIL_FORMATS) as image:
            size = image.size
            if shorter_side is not None:
                image.draft(None, (shorter_side, shorter_side))
            image.load()
            return Stored(usual_mode(image), size if image.size != size else None)
    except (DecodeError, MissingExtraError):
        raise
    except UnidentifiedImageError:
        raise _unknown_format() from None
    except Exception as error:  # decoders raise many unrelated types on broken content
        raise DecodeError(f"cannot be decoded ({type(error).__name__}: {error})") from error


def read_array(path: Path, invert_monochrome1: bool) -> NDArray[Any]:
    """Read the stored pixel values of a file as an array: (H, W) or (H, W, channels), any integer or float dtype.

    Args:
        path: see `read_stored`.
        invert_monochrome1: see `read_stored`.

    Raises:
        DecodeError: as for `read_stored`.
        MissingExtraError: as for `read_stored`.
    """
    return np.asarray(read_stored(path, invert_monochrome1).values)


def look_at_file(path: Path) -> None:
    """Raise what can be known of a file without decoding it: that it is not there, or not of a known format.

    Raises:
        DecodeError: no such file, unknown format.
    """
    head = _read_head(path)
    if _is_dicom(path, head) or _is_nifti(path):
        return
    try:
        Image.open(path, formats=_PIL_FORMATS).close()
    except UnidentifiedImageError:
        raise _unknown_format() from None
    except Exception as error:
        raise DecodeError(f"cannot be decoded ({type(error).__name__}: {error})") from error


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_DICOM_PREAMBLE + 4)
    except FileNotFoundError:
        raise DecodeError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise DecodeError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _is_dicom(path: Path, head: bytes) -> bool:
    return head[_DICOM_PREAMBLE:] == b"DICM" or path.name.lower().endswith((".dcm", ".dicom"))


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _unknown_format() -> DecodeError:
    return DecodeError(f"not an image of a known format; supported are {SUPPORTED_FORMATS}")


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


def _read_dicom(path: Path, invert_monochrome1: bool) -> NDArray[Any]:
    try:
        import pydicom
    except ImportError:
        raise MissingExtraError(f"Reading the DICOM file {path}", "pydicom", "dicom") from None
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import ImplicitVRLittleEndian

    with _patient_stays_unnamed():
        try:
            dataset = pydicom.dcmread(path)
        except InvalidDicomError:
            dataset = pydicom.dcmread(path, force=True)
            if "PixelData" not in dataset:
                raise DecodeError("not a DICOM image: no DICOM header and no pixel data") from None
            with contextlib.suppress(AttributeError):
                if "TransferSyntaxUID" not in dataset.file_meta:
                    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        if "PixelData" not in dataset:
            raise DecodeError("this DICOM file holds no image (no PixelData)")
        pixels: NDArray[Any] = dataset.pixel_array
        photometric = dataset.get("PhotometricInterpretation")
    if invert_monochrome1 and photometric == "MONOCHROME1":
        # For integers NOT is (a constant - value) that cannot overflow; the remap to 0–255 subtracts the minimum.
        pixels = ~pixels if pixels.dtype.kind in "iu" else -pixels
    return pixels


class _Silence:
    """Holds back the warnings and pydicom's log lines of the whole process, while any thread is inside.

    Both are global settings, which `catch_warnings` alone would leave wrong where threads come and go in any order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._restore.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                logger = logging.getLogger("pydicom")
                self._restore.callback(setattr, logger, "disabled", logger.disabled)
                logger.disabled = True
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore.close()


_SILENCE = _Silence()


@contextlib.contextmanager
def _patient_stays_unnamed() -> Iterator[None]:
    """Hold back what pydicom says about a file: its warnings, log lines and errors quote values of the header."""
    try:
        with _SILENCE:
            yield
    except DecodeError:
        raise
    except (RuntimeError, NotImplementedError) as error:  # of the pixel decoders: which one is missing or failed
        raise DecodeError(f"cannot be decoded ({error})") from None
    except Exception as error:
        raise DecodeError(
            f"cannot be decoded ({type(error).__name__}; the details may name a patient and are left out)"
        ) from None


def _read_nifti(path: Path) -> NDArray[Any]:
    try:
        import nibabel
    except ImportError:
        raise MissingExtraError(f"Reading the NIfTI file {path}", "nibabel", "nifti") from None
    # nibabel's axes are (x, y, z); the reference's SimpleITK gives (z, y, x) and drops a first axis of length 1.
    volume: NDArray[Any] = np.asarray(nibabel.load(path).dataobj).T
    return volume[0] if volume.ndim > 2 and volume.shape[0] == 1 else volume
