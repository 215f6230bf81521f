"""What becomes of a picture, and how a child process says it.

A child may have been taken over by the picture that it decoded. So nothing that it sends is executed or trusted: a
frame of a fixed form, with lengths that are checked before anything is read, a JSON object, and raw pixels.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from runtime.image.images import Pixels
from runtime.process.notices import Notice

__all__ = ["BEGUN", "PICTURE", "PIXELS", "Answer", "Buffer", "Expected", "framed", "read_answer"]

Buffer: TypeAlias = "bytes | bytearray | memoryview"

# What is asked for: pixels for the graph, or a picture to be shown.
PIXELS, PICTURE = b"P", b"S"
# A child's first byte: from now on its end is the picture's.
BEGUN = b"B"
_FRAME = struct.Struct("<IQ")  # lengths of the JSON object and of what follows it
_MOST_JSON = 1 << 16
_MOST_TEXT = 1000
_MOST_NOTICES = 16
_BANDS = {"L": 1, "RGB": 3}


@dataclass(frozen=True)
class Answer:
    """What became of a picture: one of the first three.

    Attributes:
        pixels: as the graph reads them.
        picture: mode "L" or "RGB", to be shown.
        reason: why it is refused.
        notices: what a user should know of it.
    """

    pixels: Pixels | None = None
    picture: Image.Image | None = None
    reason: str | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class Expected:
    """What an answer may be.

    Attributes:
        shape: of pixels; None where a picture is asked for.
        most_pixels: in the file.
    """

    shape: tuple[int, ...] | None
    most_pixels: int


def framed(answer: Answer) -> Iterator[Buffer]:
    """An answer as it goes through a socket."""
    said: dict[str, Any] = {}
    body: Buffer = b""
    if answer.pixels is not None:
        pixels = np.ascontiguousarray(answer.pixels.pixels)
        said = {"shape": pixels.shape, "size": answer.pixels.size}
        said["notices"] = [[notice.kind, notice.text] for notice in answer.notices[:_MOST_NOTICES]]
        body = pixels.data.cast("B")
    elif answer.picture is not None:
        said = {"mode": answer.picture.mode, "size": answer.picture.size}
        body = answer.picture.tobytes()
    else:
        said = {"reason": (answer.reason or "")[:_MOST_TEXT]}
    head = json.dumps(said).encode()
    yield _FRAME.pack(len(head), len(body)) + head
    if body:
        yield body


def read_answer(receive: Callable[[int], Buffer], expected: Expected) -> Answer:
    """Read a child's answer.

    Args:
        receive: gives exactly so many bytes, or raises.
        expected: what was asked for.

    Raises:
        ValueError: it is none; and whatever `receive` raises.
    """
    head_length, length = _FRAME.unpack(receive(_FRAME.size))
    most = 3 * expected.most_pixels if expected.shape is None else int(np.prod(expected.shape))
    if head_length > _MOST_JSON or length > most:
        raise ValueError("longer than any answer")
    try:
        said = json.loads(bytes(receive(head_length)))
    except RecursionError:
        raise ValueError("nested") from None
    if not isinstance(said, dict):
        raise ValueError("no object")
    if "reason" in said:
        return Answer(reason=_text(said["reason"]))
    width, height = size = _numbers(said.get("size"))
    if width * height > expected.most_pixels:
        raise ValueError("more pixels than are accepted")
    if expected.shape is None:
        mode = said.get("mode")
        if mode not in _BANDS or length != _BANDS[mode] * width * height:
            raise ValueError("no picture")
        return Answer(picture=Image.frombytes(mode, size, receive(length)))
    if said.get("shape") != list(expected.shape) or length != most:
        raise ValueError("not the pixels that were asked for")
    told = said.get("notices")
    if not isinstance(told, list) or len(told) > _MOST_NOTICES:
        raise ValueError("no notices")
    notices = tuple(Notice(_text(kind), _text(text)) for kind, text in told)
    values = np.frombuffer(receive(length), np.uint8).reshape(expected.shape)
    return Answer(pixels=Pixels(values, size), notices=notices)


def _numbers(given: Any) -> tuple[int, int]:
    if not (isinstance(given, list) and len(given) == 2 and all(type(each) is int and each > 0 for each in given)):
        raise ValueError("no size")
    return given[0], given[1]


def _text(given: Any) -> str:
    if not isinstance(given, str) or len(given) > _MOST_TEXT or not given.isprintable():
        raise ValueError("no text")
    return given
