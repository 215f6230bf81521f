"""Files → arrays of stored pixel values, one small function per format.

Source: hi-ml-multimodal, `image/data/io.py` (`load_image`), which reads PNG and JPEG through imageio's Pillow plugin,
DICOM through pydicom without rescale or window, and NIfTI through SimpleITK.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from runtime.errors import MissingExtraError

__all__ = ["SUPPORTED_FORMATS", "DecodeError", "array_from_pil", "is_supported_name", "read_array"]

SUPPORTED_FORMATS = "JPEG, PNG, DICOM (extra 'dicom') and NIfTI (extra 'nifti')"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".dcm", ".dicom", ".nii", ".nii.gz")
_DICOM_PREAMBLE = 128


class DecodeError(ValueError):
    """A file that cannot be read as an image; the message is the reason."""


def is_supported_name(path: Path) -> bool:
    """Whether a file's name looks like an image that `read_array` reads; used to pick files from folders."""
    return path.name.lower().endswith(_SUFFIXES)


def read_array(path: Path, invert_monochrome1: bool) -> NDArray[Any]:
    """Read the stored pixel values of a file; the format is recognised by content, then by name.

    Args:
        path: a JPEG, PNG, DICOM or NIfTI file.
        invert_monochrome1: turn DICOM with photometric interpretation MONOCHROME1 (0 is white) the right way up.

    Returns:
        (H, W) or (H, W, channels), any integer or float dtype.

    Raises:
        DecodeError: no such file, unknown format, broken content.
        MissingExtraError: the format needs an optional package.
    """
    name = path.name.lower()
    try:
        with path.open("rb") as stream:
            head = stream.read(_DICOM_PREAMBLE + 4)
    except FileNotFoundError:
        raise DecodeError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise DecodeError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        if head[_DICOM_PREAMBLE:] == b"DICM" or name.endswith((".dcm", ".dicom")):
            return _read_dicom(path, invert_monochrome1)
        if name.endswith((".nii", ".nii.gz")):
            return _read_nifti(path)
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return array_from_pil(image)
    except (DecodeError, MissingExtraError):
        raise
    except UnidentifiedImageError:
        raise DecodeError(f"not an image of a known format; supported are {SUPPORTED_FORMATS}") from None
    except Exception as error:  # decoders raise many unrelated types on broken content
        raise DecodeError(f"cannot be decoded ({type(error).__name__}: {error})") from error


def array_from_pil(image: Image.Image) -> NDArray[Any]:
    """Pixel values of a Pillow image, in the modes in which imageio hands them to the reference.

    Palettes are resolved, 16-bit greyscale stays 16-bit, alpha is kept as a channel (the reference's min-max remap sees
    it), CMYK becomes RGB, and EXIF orientation is not applied.

    Returns:
        (H, W), or (H, W, 2 | 3 | 4) with the channels LA, RGB or RGBA.
    """
    if image.mode in ("P", "PA") and image.palette is not None:
        image = image.convert(image.palette.mode)
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    return np.asarray(image)


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


@contextlib.contextmanager
def _patient_stays_unnamed() -> Iterator[None]:
    """Hold back what pydicom says about a file: its warnings, log lines and errors quote values of the header."""
    logger = logging.getLogger("pydicom")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DecodeError:
        raise
    except (RuntimeError, NotImplementedError) as error:  # of the pixel decoders: which one is missing or failed
        raise DecodeError(f"cannot be decoded ({error})") from None
    except Exception as error:
        raise DecodeError(
            f"cannot be decoded ({type(error).__name__}; the details may name a patient and are left out)"
        ) from None
    finally:
        logger.disabled = disabled


def _read_nifti(path: Path) -> NDArray[Any]:
    try:
        import nibabel
    except ImportError:
        raise MissingExtraError(f"Reading the NIfTI file {path}", "nibabel", "nifti") from None
    # nibabel's axes are (x, y, z); the reference's SimpleITK gives (z, y, x) and drops a first axis of length 1.
    volume: NDArray[Any] = np.asarray(nibabel.load(path).dataobj).T
    return volume[0] if volume.ndim > 2 and volume.shape[0] == 1 else volume
