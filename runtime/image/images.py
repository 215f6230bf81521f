"""Files, Pillow images or arrays → the uint8 pixels that the image graph reads.

Grey as in hi-ml-multimodal (`image/data/io.py` and `image/data/transforms.py`): remap to 0–255, convert to grey,
resize, crop. Colours as in the image processors of transformers: convert to RGB, resize, crop; and as in open_clip,
which converts last. Only values of more than 8 bits, of which those make white, are remapped as for grey. The bytes are
the references' own, before their division by 255, which the graph does; only `fast_decode` changes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.bundle.parts import GREY, LUMINANCE, RGB, RGB_AFTER, Preprocessing
from runtime.errors import DecodeError, Fault, MissingExtraError
from runtime.image.bounds import TOO_LARGE, Bounds
from runtime.image.decoders import Stored, look_at_file, read_stored, usual_mode
from runtime.image.dicom_options import DicomOptions
from runtime.image.given_images import (
    CHANNELS,
    EXPECTED,
    Decoded,
    ImageLike,
    Pixels,
    image_name,
    is_array_like,
    load_image,
    read_file,
)
from runtime.image.pixels import remap_image, remap_to_uint8
from runtime.image.resizing import resize_and_crop, resized_size
from runtime.process.checks import is_file, missing
from runtime.process.heap import expect_large_blocks
from runtime.process.notices import Notice
from runtime.process.workers import ordered_map

__all__ = [
    "Pixels",
    "decode_image",
    "load_pixels",
    "look_at",
    "read_grey",
    "read_picture",
    "remap_to_uint8",
    "resize_and_crop",
]

_AS_USUAL = DicomOptions()
_MODES_OF_8_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def read_grey(image: ImageLike, dicom: DicomOptions = _AS_USUAL) -> Image.Image:
    """Read an image at its full size as 8-bit grey.

    Args:
        image: path of a JPEG, PNG, DICOM or NIfTI file, its bytes, or the file opened in mode "rb"; a Pillow image; or
            an array (H, W), (1, H, W) or (H, W, channels) of any integer or float dtype, with the channels grey,
            grey+alpha, RGB or RGBA.
        dicom: how DICOM files are read; an engine's are `engine.image.dicom`.

    Returns:
        A Pillow image of mode "L"; the given one itself, if it is one and spans 0–255.

    Raises:
        DecodeError: the image cannot be used; the message is the reason.
        MissingExtraError: the format needs an optional package.
    """
    return _grey(_stored(image, dicom, None).values)


def read_picture(
    image: ImageLike, colours: str, dicom: DicomOptions = _AS_USUAL, *, bounds: Bounds | None = None
) -> Image.Image:
    """Read an image at its full size as a system sees it, to be shown.

    Args:
        image: as for `read_grey`.
        colours: of the system's `Preprocessing`: "grey", or "rgb".
        dicom: as for `read_grey`.
        bounds: see `load_pixels`.

    Returns:
        A Pillow image of mode "L"; of mode "RGB" where the system sees colours and the image has them.

    Raises:
        DecodeError: as for `read_grey`.
        MissingExtraError: as for `read_grey`.
    """
    values = _stored(image, dicom, None, bounds=bounds).values
    return _grey(values) if colours == GREY else _coloured(values)


def _stored(
    image: ImageLike,
    dicom: DicomOptions,
    needed: Callable[[int, int], tuple[int, int]] | None,
    any_mode: bool = False,
    bounds: Bounds | None = None,
) -> Stored:
    if isinstance(image, (str, os.PathLike)):
        return read_stored(_path(image), dicom, needed, any_mode=any_mode, bounds=bounds)
    if isinstance(image, Image.Image):
        if bounds is not None:
            bounds.check_size(*image.size)
        loaded = load_image(image)
        return Stored(loaded if any_mode else usual_mode(loaded))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return read_stored(bytes(image), dicom, needed, any_mode=any_mode, bounds=bounds)
    if is_file(image):
        return read_stored(read_file(image), dicom, needed, any_mode=any_mode, bounds=bounds)
    if isinstance(image, Pixels) or not is_array_like(image):
        raise DecodeError(f"is {missing(image)}; {EXPECTED} is expected")
    try:
        return Stored(np.asarray(image))  # also of a masked array, a matrix or a tensor
    except Exception as error:  # of a tensor on a GPU, say; foreign code raises any kind
        raise DecodeError(f"is a {type(image).__name__} of which no array can be made ({error})") from error


def _path(image: str | os.PathLike[Any]) -> Path:
    return Path(os.fsdecode(image))


def _grey(values: Image.Image | NDArray[Any]) -> Image.Image:
    if _has_8_bits(values):
        return _converted(remap_image(values), "L")
    return _converted(Image.fromarray(remap_to_uint8(_checked(values))), "L")


def _coloured(values: Image.Image | NDArray[Any]) -> Image.Image:
    """Mode "RGB", or "L" where all channels are the same."""
    if _has_8_bits(values):
        image = values
    else:
        array = _checked(values)
        image = Image.fromarray(array if array.dtype == np.uint8 else remap_to_uint8(array))
    return _converted(image, "L" if image.mode in ("L", "LA") else "RGB")


def _luminance(values: Image.Image | NDArray[Any]) -> Image.Image:
    return _converted(_coloured(values), "L")


def _as_stored(values: Image.Image | NDArray[Any]) -> Image.Image:
    """A Pillow image of 8 bits as it is, also with a palette; else as for `_coloured`."""
    if isinstance(values, Image.Image) and values.mode in _MODES_OF_8_BITS:
        if 0 in values.size:
            raise DecodeError(f"is empty ({values.width} × {values.height} pixels)")
        return values
    return _coloured(values)


# By `Preprocessing.colours`.
_TO_8_BITS: Mapping[str, Callable[[Image.Image | NDArray[Any]], Image.Image]] = MappingProxyType(
    {GREY: _grey, LUMINANCE: _luminance, RGB: _coloured, RGB_AFTER: _as_stored}
)


def _has_8_bits(values: Image.Image | NDArray[Any]) -> TypeGuard[Image.Image]:
    """Whether it is a Pillow image in a mode of 8 bits, which is best left one.

    Raises:
        DecodeError: it has no pixels.
    """
    if not isinstance(values, Image.Image) or values.mode not in ("L", "LA", "RGB", "RGBA"):
        return False
    if 0 in values.size:
        raise DecodeError(f"is empty ({values.width} × {values.height} pixels)")
    return True


def _checked(values: Image.Image | NDArray[Any]) -> NDArray[Any]:
    """Numbers (H, W) or (H, W, channels)."""
    array = np.asarray(values)
    if array.dtype.kind not in "iufb":
        raise DecodeError(f"has dtype {array.dtype}; integers or floats are expected")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    elif array.ndim == 3 and array.shape[0] == 1 and array.shape[2] not in CHANNELS:
        array = array[0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS)):
        raise DecodeError(f"has shape {array.shape}; (H, W), or (H, W, channels) with 1 to 4 channels, is expected")
    if array.size == 0:
        raise DecodeError(f"is empty (shape {array.shape})")
    return array


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # which would copy


def load_pixels(
    images: Sequence[ImageLike],
    rule: Preprocessing,
    dicom: DicomOptions = _AS_USUAL,
    *,
    fast_decode: bool = False,
    threads: int = 1,
    on_notice: Callable[[str, Sequence[Notice]], None] | None = None,
    bounds: Bounds | None = None,
) -> tuple[list[Pixels], list[Fault]]:
    """Prepare several images for the graph; bad ones are reported, not raised.

    Args:
        images: see `read_grey`.
        rule: of the bundle.
        dicom: see `read_grey`.
        fast_decode: see `runtime.load`.
        threads: at work on them: on as many images side by side, and several on one where they are fewer.
        on_notice: called with the name of a file in which something was unusual, and what.
        bounds: of files from strangers, whose reasons then quote nothing that decoders say; None decodes whatever
            comes.

    Returns:
        The usable images in order, and one fault for each of the others, whatever went wrong with it.

    Raises:
        MissingExtraError: a format needs an optional package.
    """
    workers = max(1, min(threads, len(images)))
    shared = replace(dicom, threads=threads // workers)

    def prepare(item: tuple[int, ImageLike]) -> Pixels | Fault:
        index, image = item
        try:
            if isinstance(image, Decoded):
                pixels, notices = image.pixels()
            else:
                pixels, notices = decode_image(image, rule, shared, fast_decode=fast_decode, bounds=bounds)
            if notices and on_notice:
                on_notice(image_name(image), notices)
            return pixels
        except MissingExtraError:
            raise
        except Exception as error:  # any kind: one image that exhausts the memory must not hide which it was
            return _fault(index, image, error, bounds)

    found = list(ordered_map(prepare, enumerate(images), workers) if workers > 1 else map(prepare, enumerate(images)))
    return [item for item in found if isinstance(item, Pixels)], [item for item in found if isinstance(item, Fault)]


def decode_image(
    image: ImageLike,
    rule: Preprocessing,
    dicom: DicomOptions = _AS_USUAL,
    *,
    fast_decode: bool = False,
    bounds: Bounds | None = None,
) -> tuple[Pixels, Sequence[Notice]]:
    """Prepare one image for the graph.

    Args:
        image: see `read_grey`, and so on as for `load_pixels`.

    Returns:
        Its pixels, and what a user should know of its file.

    Raises:
        Exception: of any kind; `load_pixels` makes a fault of it.
    """
    if isinstance(image, Pixels):
        return _prepared(image, rule), ()
    expect_large_blocks()
    needed = partial(resized_size, rule) if fast_decode else None
    values, size, notices = _stored(image, dicom, needed, rule.colours == RGB_AFTER, bounds)
    decoded = _TO_8_BITS[rule.colours](values)
    return Pixels(resize_and_crop(decoded, rule, size), size or decoded.size), notices


def _prepared(image: Pixels, rule: Preprocessing) -> Pixels:
    if image.pixels.dtype != np.uint8 or image.pixels.shape != rule.shape:
        raise DecodeError(
            f"was prepared as {image.pixels.dtype} {image.pixels.shape}; uint8 {rule.shape} is expected here"
        )
    return image


def look_at(images: Sequence[ImageLike]) -> list[Fault]:
    """Name the files that are missing or of an unknown format, without decoding any."""
    faults = []
    for index, given in enumerate(images):
        image = given.image if isinstance(given, Decoded) else given
        try:
            if isinstance(image, (str, os.PathLike)):
                look_at_file(_path(image))
            elif isinstance(image, (bytes, bytearray, memoryview)):
                look_at_file(bytes(image))
        except DecodeError as error:
            faults.append(_fault(index, image, error))
    return faults


def _fault(index: int, image: ImageLike, error: Exception, bounds: Bounds | None = None) -> Fault:
    if isinstance(error, DecodeError):
        reason = str(error)
    elif bounds is None:
        reason = f"cannot be prepared ({type(error).__name__}: {error})"
    else:
        reason = TOO_LARGE if isinstance(error, MemoryError) else f"cannot be prepared ({type(error).__name__})"
    return Fault(index, image_name(image), reason)
