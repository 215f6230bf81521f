"""What a child sends is taken for pixels or a reason, and for nothing else."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from runtime.image.images import Pixels
from runtime.process.notices import Notice
from runtime.serve.decoding.answers import Answer, Expected, framed, read_answer

SQUARE = Expected((4, 4), 100)
SHOWN = Expected(None, 100)
VALUES = np.arange(16, dtype=np.uint8).reshape(4, 4)


def sent(content: bytes) -> Callable[[int], bytes]:
    """What receives exactly so many of these bytes."""
    at = 0

    def receive(count: int) -> bytes:
        nonlocal at
        assert count < 1 << 20, "nothing of that length is ever received"
        if at + count > len(content):
            raise EOFError
        at += count
        return content[at - count : at]

    return receive


def frame(said: object, body: bytes = b"", length: int | None = None) -> bytes:
    head = said if isinstance(said, bytes) else json.dumps(said).encode()
    return struct.pack("<IQ", len(head), len(body) if length is None else length) + head + body


def test_answers_arrive_as_they_were_sent() -> None:
    notices = (Notice("a kind", "a text"),)
    pixels = b"".join(framed(Answer(pixels=Pixels(VALUES, (9, 8)), notices=notices)))
    found = read_answer(sent(pixels), SQUARE)
    assert found.pixels is not None
    assert np.array_equal(found.pixels.pixels, VALUES)
    assert (found.pixels.size, found.notices) == ((9, 8), notices)
    for mode in ("L", "RGB"):
        image = Image.effect_noise((9, 8), 50).convert(mode)
        shown = read_answer(sent(b"".join(framed(Answer(picture=image)))), SHOWN).picture
        assert shown is not None
        assert (shown.mode, shown.tobytes()) == (mode, image.tobytes())
    assert read_answer(sent(b"".join(framed(Answer(reason="is broken")))), SQUARE).reason == "is broken"


SAID = {"shape": [4, 4], "size": [9, 8], "notices": []}
BODY = bytes(16)


@pytest.mark.parametrize(
    ("expected", "content"),
    [
        (SQUARE, frame(SAID, BODY, 1 << 60)),
        (SQUARE, struct.pack("<IQ", 1 << 30, 0)),
        (SQUARE, frame({**SAID, "shape": [2, 8]}, BODY)),
        (SQUARE, frame({**SAID, "shape": [-4, -4]}, BODY)),
        (SQUARE, frame(SAID, bytes(15))),
        (SQUARE, frame({**SAID, "size": [101, 1]}, BODY)),
        (SQUARE, frame({**SAID, "size": [0, 8]}, BODY)),
        (SQUARE, frame({**SAID, "size": [True, 8]}, BODY)),
        (SQUARE, frame({**SAID, "size": [9.0, 8]}, BODY)),
        (SQUARE, frame({**SAID, "size": None}, BODY)),
        (SQUARE, frame({**SAID, "notices": [[1, 2]]}, BODY)),
        (SQUARE, frame({**SAID, "notices": [["a", "b\n"]]}, BODY)),
        (SQUARE, frame({**SAID, "notices": [["a"]]}, BODY)),
        (SQUARE, frame({**SAID, "notices": 5}, BODY)),
        (SQUARE, frame({**SAID, "notices": {"a": "b"}}, BODY)),
        (SQUARE, frame([], BODY)),
        (SQUARE, frame({"reason": 5})),
        (SQUARE, frame({"reason": "x" * 1001})),
        (SQUARE, frame({"reason": "a\0b"})),
        (SQUARE, frame(b"[" * 60_000)),
        (SQUARE, frame(b"\xff{")),
        (SQUARE, frame(pickle.dumps(SAID), BODY)),
        (SHOWN, frame(SAID, BODY)),
        (SHOWN, frame({"mode": "RGB", "size": [4, 4]}, BODY)),
        (SHOWN, frame({"mode": "F", "size": [2, 2]}, BODY)),
        (SHOWN, frame({"mode": ["L"], "size": [4, 4]}, BODY)),
        (SHOWN, frame({"mode": "L", "size": [50, 50]}, bytes(300))),
    ],
)
def test_nothing_else_is_taken(expected: Expected, content: bytes) -> None:
    with pytest.raises((ValueError, TypeError, EOFError)):
        read_answer(sent(content), expected)


def test_what_is_cut_off_is_not_taken() -> None:
    whole = frame(SAID, BODY)
    assert read_answer(sent(whole), SQUARE).pixels is not None
    for length in range(len(whole)):
        with pytest.raises((ValueError, EOFError)):
            read_answer(sent(whole[:length]), SQUARE)
