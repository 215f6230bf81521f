"""Files, Pillow images or arrays → the uint8 pixels that the image graph reads.

Source: hi-ml-multimodal, `image/data/io.py` and `image/data/transforms.py`: remap to 0–255, convert to grey, resize the
shorter side with Pillow's antialiased bilinear filter, crop the centre. The bytes are the reference's own, before its
division by 255, which the graph does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.decoders import DecodeError, array_from_pil, read_array
from runtime.errors import Fault, InputError

__all__ = ["ImageLike", "Pixels", "as_image_list", "image_name", "load_pixels", "read_grey", "remap_to_uint8"]

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[Any]"

_TABLE_LIMIT = 1 << 16
_LONGEST_SIDE = 1 << 15


@dataclass(frozen=True)
class Pixels:
    """One image, ready for the graph.

    Attributes:
        pixels: uint8 (crop, crop).
        size: width and height of the original image in pixels.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


def remap_to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch values linearly so that the smallest becomes 0 and the largest 255, truncating to integers.

    The result is that of the reference's `remap_to_uint8`, which computes every pixel in float64; for integers a table
    of at most 65,536 entries, computed the same way, gives the identical bytes.

    Args:
        array: any shape, integer or float, at least two distinct values, finite.

    Returns:
        uint8, same shape.

    Raises:
        DecodeError: constant, or with NaN or infinity.
    """
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DecodeError("holds NaN or infinite values; finite values are expected")
    if low == high:
        raise DecodeError(f"is constant (every value is {low}), so its values cannot be stretched to 0–255")
    if array.dtype.kind in "iu" and int(high) - int(low) < _TABLE_LIMIT:
        table = _stretch(np.arange(int(high) - int(low) + 1, dtype=np.float64))
        # Subtraction that wraps around modulo 2**bits still gives the right offset once seen as unsigned.
        offsets = (array - low).view(f"u{array.dtype.itemsize}") if array.dtype.kind == "i" else array - low
        return np.asarray(np.take(table, offsets))
    values = array.astype(np.float64)
    with np.errstate(over="ignore"):
        values -= np.float64(low)
    if not np.isfinite(values).all():
        raise DecodeError(f"has values from {low:g} to {high:g}, too far apart for float64")
    return _stretch(values)


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    values /= values.max()
    values *= 255
    return values.astype(np.uint8)


def read_grey(image: ImageLike, invert_monochrome1: bool = True) -> Image.Image:
    """Read an image at its full size as 8-bit grey.

    Args:
        image: path of a JPEG, PNG, DICOM or NIfTI file; a Pillow image; or an array (H, W) or (H, W, channels) of any
            integer or float dtype, with the channels grey, grey+alpha, RGB or RGBA.
        invert_monochrome1: see `runtime.load`.

    Returns:
        A Pillow image of mode "L".

    Raises:
        DecodeError: the image cannot be used; the message is the reason.
        MissingExtraError: the format needs an optional package.
    """
    if isinstance(image, (str, os.PathLike)):
        array = read_array(Path(image), invert_monochrome1)
    elif isinstance(image, Image.Image):
        try:
            array = array_from_pil(image)
        except Exception as error:  # lazily loaded Pillow images decode here
            raise DecodeError(f"cannot be decoded ({type(error).__name__}: {error})") from error
    elif isinstance(image, np.ndarray):
        array = np.asarray(image)  # also of a masked array or a matrix
    else:
        raise DecodeError(f"is a {type(image).__name__}; a path, a Pillow image or a numpy array is expected")
    if array.dtype.kind not in "iufb":
        raise DecodeError(f"has dtype {array.dtype}; integers or floats are expected")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (2, 3, 4))):
        raise DecodeError(f"has shape {array.shape}; (H, W), or (H, W, channels) with 1 to 4 channels, is expected")
    if array.size == 0:
        raise DecodeError(f"is empty (shape {array.shape})")
    return Image.fromarray(remap_to_uint8(array)).convert("L")


def resize_and_crop(image: Image.Image, resize: int, crop: int) -> NDArray[np.uint8]:
    """Resize the shorter side and cut out the centre, as torchvision's Resize and CenterCrop do on Pillow images.

    Args:
        image: mode "L".
        resize: length of the shorter side after resizing, in pixels.
        crop: side of the square cut out, at most `resize`.

    Returns:
        uint8 (crop, crop).

    Raises:
        DecodeError: the sides differ so much that the resized image would be over 32,768 pixels long.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    resized_long = int(resize * long / short)
    if resized_long > _LONGEST_SIDE:
        raise DecodeError(
            f"is {width} × {height} pixels; sides in a ratio of at most {_LONGEST_SIDE // resize} : 1 are expected"
        )
    size = (resize, resized_long) if width <= height else (resized_long, resize)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    # round(), like torchvision's: halves go to the even neighbour.
    left, top = round((size[0] - crop) / 2.0), round((size[1] - crop) / 2.0)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


def load_pixels(
    images: Sequence[ImageLike], resize: int, crop: int, invert_monochrome1: bool = True
) -> tuple[list[Pixels], list[Fault]]:
    """Prepare several images for the graph; bad ones are reported, not raised.

    Args:
        images: see `read_grey`.
        resize: see `resize_and_crop`.
        crop: see `resize_and_crop`.
        invert_monochrome1: see `runtime.load`.

    Returns:
        The usable images in order, and one fault for each of the others.

    Raises:
        MissingExtraError: a format needs an optional package.
    """
    loaded: list[Pixels] = []
    faults: list[Fault] = []
    for index, item in enumerate(images):
        try:
            grey = read_grey(item, invert_monochrome1)
            loaded.append(Pixels(resize_and_crop(grey, resize, crop), grey.size))
        except DecodeError as error:
            faults.append(Fault(index, image_name(item), str(error)))
    return loaded, faults


def image_name(image: object) -> str:
    """What to call an image in messages: its path, or what it is."""
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image) if isinstance(os.fspath(image), str) else repr(image)
    if isinstance(image, Image.Image):
        return getattr(image, "filename", "") or "Pillow image"
    return "array" if isinstance(image, np.ndarray) else type(image).__name__


def as_image_list(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    """One image or many → a list.

    An array of two dimensions, or of three with 1 to 4 channels last, is one image; any other array is taken as a
    sequence of images along its first axis.

    Raises:
        InputError: the list is empty, or the argument is neither an image nor iterable.
    """
    if isinstance(images, (str, os.PathLike, Image.Image)):
        return [images]
    if isinstance(images, np.ndarray) and (images.ndim <= 2 or (images.ndim == 3 and images.shape[2] in (1, 2, 3, 4))):
        return [images]
    if not isinstance(images, Iterable):
        raise InputError(
            f"A {type(images).__name__} came where images are expected: a path, a Pillow image, a numpy array, or a "
            "list of those."
        )
    listed = list(images)
    if not listed:
        raise InputError("The list of images is empty; at least one image is expected.")
    return listed
