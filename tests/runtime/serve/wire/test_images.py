"""Pictures in base64: strict, but for line breaks; never from elsewhere."""

from __future__ import annotations

import asyncio
import base64
import os

import pytest

from runtime.serve.request_errors import RequestError
from runtime.serve.wire.images import decode_images


def decoded(*values: object) -> list[bytes]:
    return asyncio.run(decode_images(values, "image", 5))


@pytest.mark.parametrize("size", [1, 2, 3, 100, 60_000, 786_431, 786_432, 786_433, 3_000_000])
def test_every_length(size: int) -> None:
    """Long ones are decoded piece by piece."""
    data = os.urandom(size)
    text = base64.b64encode(data).decode()
    broken = base64.encodebytes(data).decode()
    url = f"data:application/dicom;base64,{text}"
    assert decoded(text, broken, url, f"DATA:image/PNG;x=y;base64,{text}", f"data:;base64,{text}") == [data] * 5


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a",
        "YQ",
        "YQ=",
        "YQ==YQ==",
        "Y!Q=",
        "YWJj-_==",
        "ÿÿÿÿ",
        None,
        5,
        ["YQ=="],
        {"url": "YQ=="},
        "https://example.org/film.png",
        "HTTP://example.org/film.png",
        "file:///etc/passwd",
        "//example.org/x",
        "data:image/png,YQ==",
        "data:image/svg+xml;base64,YQ==",
        "data:text/html;base64,YQ==",
        "data:image/png;base64",
        "A" * (1 << 20) + "YQ==" * 4 + "A" * 8,
        "A" * ((1 << 20) - 4) + "YQ==" + "A" * 8,  # padding at the end of a piece that is not the last
    ],
)
def test_what_is_none(value: object) -> None:
    with pytest.raises(RequestError) as raised:
        decoded(value)
    assert (raised.value.kind, raised.value.param) == ("Validation", "image")


def test_too_many() -> None:
    with pytest.raises(RequestError, match="6 images"):
        decoded(*["?"] * 6)


def test_each_that_cannot_be_used_is_named_by_position() -> None:
    with pytest.raises(RequestError) as raised:
        decoded("YQ==", "?", "YQ==", "http://x/y")
    assert [each.index for each in raised.value.items] == [1, 3]
    assert "fetches no URLs" in raised.value.items[1].reason
