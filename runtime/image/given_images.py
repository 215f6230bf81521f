"""Images as callers give them: which of them there are, and how to read those that are objects.

Reading an open file or a lazily opened Pillow image changes it, and neither is made for two threads. So each such
object is read under a lock that belongs to it, and is decoded once where it is given several times in a call.
"""

from __future__ import annotations

import inspect
import io
import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from runtime.errors import DecodeError, InputError
from runtime.process import array_of
from runtime.process.checks import is_file, is_mapping, is_table, taken
from runtime.process.forks import in_children
from runtime.process.notices import Notice

__all__ = [
    "CHANNELS",
    "EXPECTED",
    "Decoded",
    "ImageLike",
    "Pixels",
    "as_image_list",
    "image_name",
    "is_array_like",
    "is_encoded",
    "load_image",
    "only_once",
    "read_file",
    "taken_images",
]


@dataclass(frozen=True)
class Pixels:
    """One image, ready for the graph; `ImageEncoder.load` makes it, and its methods take it.

    Attributes:
        pixels: uint8 (crop, crop), or (3, crop, crop) for graphs that read colours.
        size: width and height of the original image in pixels.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image that was decoded before it was asked for; see `runtime.image.ahead`.

    Attributes:
        image: as it was given.
        found: its pixels, or what decoding it raised.
        notices: what a user should know of its file.
    """

    image: Any
    found: Pixels | Exception
    notices: Sequence[Notice] = ()

    def pixels(self) -> tuple[Pixels, Sequence[Notice]]:
        """Its pixels and notices.

        Raises:
            Exception: what decoding it raised.
        """
        if isinstance(self.found, Exception):
            raise self.found
        return self.found, self.notices


ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[Any] | Pixels"
)

EXPECTED = "a path, the bytes of a file, a file opened in mode 'rb', a Pillow image or a numpy array"
CHANNELS = (1, 2, 3, 4)
_TO_RESHAPE = (
    "(H, W), or (H, W, channels) with 1 to 4 channels, is expected, or a list of such. Channels that come first go "
    "last with np.moveaxis(array, -3, -1); several grey images are list(array)"
)
_TO_AWAIT = "has a read() that must be awaited. Pass its .file, or the bytes: await image.read()"


def as_image_list(images: Any) -> list[Any]:
    """One image or many → a list.

    An array of two dimensions, or of three with 1 to 4 channels last, is one image. Of three dimensions otherwise it is
    a stack of grey images (N, H, W), of four a stack (N, H, W, channels) or (N, 1, H, W). What could be a stack of two
    to four grey images or one image with its channels first is refused.

    Raises:
        InputError: the list is empty, or the argument is neither an image nor holds images in an order.
    """
    found, _ = taken_images(images)
    listed = list(found)
    if not listed:
        raise InputError("The list of images is empty; at least one image is expected.")
    return listed


def taken_images(images: Any) -> tuple[Iterable[Any], bool]:
    """As `as_image_list`, but what can be iterated over is not yet; and whether it is a single image."""
    if isinstance(images, (str, os.PathLike, Image.Image, Pixels, Decoded)) or is_encoded(images):
        return [images], True
    if not isinstance(images, np.ndarray) and is_array_like(images):
        # A tensor is an image, a column of paths is not: what they hold tells.
        array = array_of("The images", images, "an image or several", kinds="fiubcmMOSUTV")
        if array.dtype.kind not in "OSUT":
            images = array
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OSUTV":
        return _images_of(images)
    if isinstance(images, np.ndarray) and images.ndim == 0:
        return taken_images(images.item())
    if isinstance(images, ImageSequence.Iterator):  # which hands out one object over and over
        return (frame.copy() for frame in images), False
    return taken(images, "images", f"{EXPECTED}, or a list of those"), False


def _images_of(array: NDArray[Any]) -> tuple[Iterable[Any], bool]:
    if array.ndim < 3 or (array.ndim == 3 and array.shape[2] in CHANNELS):
        return [array], True
    ambiguous = array.ndim == 3 and array.shape[0] in CHANNELS[1:]
    channels_first = array.ndim == 4 and array.shape[3] not in CHANNELS and array.shape[1] != 1
    if array.ndim > 4 or ambiguous or channels_first:
        two_ways = f": {array.shape[0]} grey images, or one with its channels first?" if ambiguous else "."
        raise InputError(f"An array of shape {array.shape} came where images are expected{two_ways} {_TO_RESHAPE}.")
    return list(array), False


def is_encoded(image: object) -> bool:
    """Whether this is a whole image file: its bytes, or something to read them from."""
    return isinstance(image, (bytes, bytearray, memoryview)) or is_file(image)


def is_array_like(image: object) -> bool:
    """Whether an array can be made of this: an array, a tensor, a column of numbers."""
    return hasattr(type(image), "__array__") and not is_table(image) and not is_mapping(image)


def image_name(image: object) -> str:
    """What to call an image in messages: its path, or what it is."""
    if isinstance(image, Decoded):
        return image_name(image.image)
    if isinstance(image, (str, os.PathLike)):
        return os.fsdecode(image)
    if isinstance(image, Image.Image):
        return str(getattr(image, "filename", "") or "Pillow image")
    if isinstance(image, np.ndarray):
        return "array"
    if isinstance(image, Pixels):
        return "prepared image"
    if is_file(image):
        # Uploads have the name of the file beside that of the form's field.
        attributes = ("name",) if isinstance(image, io.IOBase) else ("filename", "name")
        names = (getattr(image, attribute, None) for attribute in attributes)
        return next((name for name in names if isinstance(name, str) and name), type(image).__name__)
    return type(image).__name__


def only_once(images: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Each open file and Pillow image once, however often it was given, and for each of `images` its place there."""
    found: list[Any] = []
    places: list[int] = []
    known: dict[int, int] = {}
    for image in images:
        changes = isinstance(image, Image.Image) or (not isinstance(image, (str, np.ndarray)) and is_file(image))
        place = known.setdefault(id(image), len(found)) if changes else len(found)
        if place == len(found):
            found.append(image)
        places.append(place)
    return found, places


class _Locks:
    """A lock for every object: always the same one, which others may share. There is nothing to forget."""

    _COUNT = 61  # a prime: addresses are multiples of 16

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Free all of them: a forked child has none of the threads that held them."""
        self._locks = [threading.Lock() for _ in range(self._COUNT)]

    def of(self, thing: object) -> threading.Lock:
        return self._locks[id(thing) % self._COUNT]


# Who needs both takes that of the image first.
_of_images, _of_files = _Locks(), _Locks()
in_children(_of_images.renew)
in_children(_of_files.renew)


def read_file(file: Any) -> bytes:
    """All of an open file, from its beginning; what cannot be rewound is read from where it stands.

    Its position is afterwards what it was.

    Raises:
        DecodeError: it gives no bytes, or none any more.
    """
    if isinstance(file, io.TextIOBase):
        raise DecodeError("is a file opened as text; bytes are expected: open it in mode 'rb'")
    if inspect.iscoroutinefunction(file.read):
        raise DecodeError(_TO_AWAIT)
    with _of_files.of(file):
        try:
            start = _rewind(file)
            try:
                content = file.read()
            finally:
                if start is not None:
                    file.seek(start)
        except Exception as error:  # of any kind: whose file it is, is not known
            raise DecodeError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if inspect.iscoroutine(content):
        content.close()
        raise DecodeError(_TO_AWAIT)
    if isinstance(content, str):
        raise DecodeError("is a file opened as text; bytes are expected: open it in mode 'rb'")
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise DecodeError(f"its read() gave a {type(content).__name__}; bytes are expected")
    if not content and start is None:
        raise DecodeError("has nothing left to read, and cannot be rewound. Read it once, and pass its bytes")
    return bytes(content)


def _rewind(file: Any) -> int | None:
    """Go to the beginning; where it stood, or None where it cannot be rewound."""
    try:
        start = int(file.tell())
        file.seek(0)
    except (AttributeError, OSError):
        return None
    return start


def load_image(image: Image.Image) -> Image.Image:
    """Decode a Pillow image that was opened lazily, as any of its methods would; of several frames the current one.

    Raises:
        DecodeError: it cannot be decoded.
    """
    with _of_images.of(image):
        file = getattr(image, "fp", None)  # which other images may be read from, too
        tiles = list(getattr(image, "tile", ()))
        if tiles and file is None:
            raise DecodeError("cannot be decoded: it was closed before, or found to be broken. Open it again")
        with _of_files.of(file) if file is not None else nullcontext():
            try:
                image.load()
            except Exception as error:
                if tiles:  # Pillow may forget that it failed, and would next give what it had decoded until then
                    image.tile = tiles  # type: ignore[attr-defined]
                raise DecodeError(f"cannot be decoded ({type(error).__name__}: {error})") from error
    return image
