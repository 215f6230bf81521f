"""An image of 8 bits → the pixels that the graph reads, by the rules of `Preprocessing`.

Sources: torchvision's Resize and CenterCrop on Pillow images; transformers' image processors with the Pillow backend;
GLoRIA, `gloria_model.py` (`_resize_img`), on OpenCV's images. The bytes are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import floor
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.bundle.parts import RGB, RGB_AFTER, Preprocessing
from runtime.errors import DecodeError
from runtime.image.area import resize_area

__all__ = ["resize_and_crop", "resized_size", "seen_square"]

_LONGEST_SIDE = 1 << 15
# Rules that pad.
_LONGEST = ("longest", "longest by factor")
_Box = tuple[float, float, float, float]


def _shortest(size: int, width: int, height: int) -> tuple[int, int]:
    short, long = min(width, height), max(width, height)
    resized_long = int(size * long / short)
    if resized_long > _LONGEST_SIDE:
        raise DecodeError(
            f"is {width} × {height} pixels; sides in a ratio of at most {_LONGEST_SIDE // size} : 1 are expected"
        )
    return (size, resized_long) if width <= height else (resized_long, size)


def _longest(size: int, width: int, height: int) -> tuple[int, int]:
    return _other_side(size, int(size * min(width, height) / max(width, height)), width, height)


def _longest_by_factor(size: int, width: int, height: int) -> tuple[int, int]:
    """49 × 49 becomes 256 × 255: 49 · (256 / 49) is less than 256 in floating point."""
    return _other_side(size, int(min(width, height) * (size / max(width, height))), width, height)


def _other_side(size: int, resized_short: int, width: int, height: int) -> tuple[int, int]:
    if resized_short < 1:
        raise DecodeError(f"is {width} × {height} pixels; sides in a ratio of at most {size} : 1 are expected")
    return (resized_short, size) if width <= height else (size, resized_short)


def _by_pillow(filtered: Image.Resampling, image: Image.Image, size: tuple[int, int], box: _Box) -> Image.Image:
    return image.resize(size, filtered, box=box)


def _by_area(image: Image.Image, size: tuple[int, int], box: _Box) -> Image.Image:
    whole = box == (0, 0, *image.size)
    return Image.fromarray(resize_area(np.asarray(image), size, None if whole else box[2:]))


# Size to resize to, width and height → both after resizing.
_SIZES: Mapping[str, Callable[[int, int, int], tuple[int, int]]] = MappingProxyType(
    {
        "shortest": _shortest,
        "longest": _longest,
        "longest by factor": _longest_by_factor,
        "squash": lambda size, width, height: (size, size),
    }
)
# An image, its new width and height, and the part of it that is resized → the new one.
_FILTERS: Mapping[str, Callable[[Image.Image, tuple[int, int], _Box], Image.Image]] = MappingProxyType(
    {
        "bilinear": partial(_by_pillow, Image.Resampling.BILINEAR),
        "bicubic": partial(_by_pillow, Image.Resampling.BICUBIC),
        "lanczos": partial(_by_pillow, Image.Resampling.LANCZOS),
        "area": _by_area,
    }
)
# What is cut off on both sides together → on the left, or at the top.
_ROUNDINGS: Mapping[str, Callable[[int], int]] = MappingProxyType(
    {"even": lambda rest: round(rest / 2.0), "down": lambda rest: rest // 2}
)


def resized_size(rule: Preprocessing, width: int, height: int) -> tuple[int, int]:
    """Width and height of an image after resizing, before it is padded and cropped.

    Raises:
        DecodeError: the sides differ so much that one would be over 32,768 pixels long, or none.
    """
    return _SIZES[rule.resize](rule.size, width, height)


def resize_and_crop(image: Image.Image, rule: Preprocessing, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Resize an image, pad it where the rule says so, and cut out the centre.

    Args:
        image: mode "L", or "RGB" for a rule of three channels, or any of 8 bits where they become RGB at the end; the
            values of "L" are repeated for three channels.
        rule: of the bundle.
        size: width and height of the original, if `image` is a reduction of it to a half, a quarter or an eighth.

    Returns:
        uint8 (crop, crop), or (3, crop, crop) for three channels.

    Raises:
        DecodeError: as for `resized_size`.
    """
    width, height = size or image.size
    target = resized_size(rule, width, height)
    # All of the image is resized, which costs 2 ms of 20: Pillow's `box` could leave out what the crop does not show,
    # but it can change which of the two passes Pillow 13 takes first, and with it the rounding.
    if image.size != target:
        # The last column and row of a reduction may stand for less of the original than the others do.
        reduction = -(-width // image.width)
        box = (0, 0, width / reduction, height / reduction)
        image = _FILTERS[rule.interpolation](image, target, box)
    if rule.resize in _LONGEST:
        square = Image.new(image.mode, (rule.size, rule.size))
        square.paste(image, ((rule.size - target[0]) // 2, (rule.size - target[1]) // 2))
        image = square
    left, top = (_ROUNDINGS[rule.crop_rounding](side - rule.crop) for side in image.size)
    image = image.crop((left, top, left + rule.crop, top + rule.crop))
    if rule.colours == RGB_AFTER and image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if rule.colours not in (RGB, RGB_AFTER):
        return pixels
    if pixels.ndim == 2:
        return np.repeat(pixels[None], 3, axis=0)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def seen_square(rule: Preprocessing, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where the square that the graph reads lies in the original image; sides are truncated as hi-ml-multimodal does.

    Args:
        rule: of the bundle.
        size: width and height of the original image in pixels.

    Returns:
        Left, top, width and height in pixels of the original: a square, unless the rule is "squash"; beyond the image
        where that was padded. Of odd margins the smaller half goes left and on top.
    """
    by_rule = {"shortest": (min(size),) * 2, "squash": size}
    by_rule |= dict.fromkeys(_LONGEST, (max(size),) * 2)
    width, height = (int(rule.crop * side / rule.size) for side in by_rule[rule.resize])
    return floor((size[0] - width) / 2), floor((size[1] - height) / 2), width, height
