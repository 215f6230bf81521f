"""Bodies in bounds: sizes that are told and not told, pauses, and what inflates."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from collections.abc import Sequence

import pytest
from starlette.requests import Request

from runtime.serve.request_errors import RequestError
from runtime.serve.wire.bodies import inflated, media_type, read_body, refuse_encodings


def request(chunks: Sequence[bytes] = (), pause: float = 0.0, **headers: str) -> Request:
    """A request whose body comes in chunks, with a pause before each."""
    remaining = list(chunks)

    async def receive() -> dict[str, object]:
        await asyncio.sleep(pause)
        body = remaining.pop(0) if remaining else b""
        return {"type": "http.request", "body": body, "more_body": bool(remaining)}

    listed = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": listed, "query_string": b""}, receive)


def kind_of(call: object) -> str:
    with pytest.raises(RequestError) as raised:
        asyncio.run(call)  # type: ignore[arg-type]
    return raised.value.kind


def test_up_to_the_bound() -> None:
    chunks = [b"ab", b"", b"cde"]
    assert asyncio.run(read_body(request(chunks), 5)) == b"abcde"
    assert kind_of(read_body(request(chunks), 4)) == "TooLarge"
    assert asyncio.run(read_body(request(), 0)) == b""


def test_a_length_that_is_told_is_refused_before_anything_comes() -> None:
    untouched = request([b"x"], content_length="6")
    assert kind_of(read_body(untouched, 5)) == "TooLarge"
    assert not untouched._stream_consumed
    for told in ("5", "-1", "²", "many", ""):  # of which the server in front refuses most
        assert asyncio.run(read_body(request([b"x"], content_length=told), 5)) == b"x"


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP ", gzip.compress), ("", bytes), ("identity", bytes)],
)
def test_inflating(encoding: str, pack: object) -> None:
    body = bytes(range(256)) * 10_000
    assert asyncio.run(inflated(pack(body), encoding, len(body))) == body  # type: ignore[operator]


def test_what_inflates_beyond_the_bound_is_given_up_early() -> None:
    bomb = gzip.compress(bytes(200 << 20), 1)
    began = time.monotonic()
    assert kind_of(inflated(bomb, "gzip", 1 << 20)) == "TooLarge"
    assert time.monotonic() - began < 1
    whole = gzip.compress(b"text" * 1000)
    assert kind_of(inflated(whole[:-20], "gzip", 1 << 20)) == "BadRequest"
    assert kind_of(inflated(b"no gzip", "gzip", 1 << 20)) == "BadRequest"
    assert kind_of(inflated(b"", "deflate", 1 << 20)) == "BadRequest"
    assert kind_of(inflated(whole, "br", 1 << 20)) == "UnsupportedMediaType"


def test_media_types() -> None:
    found = media_type(request(content_type='Multipart/Form-Data; boundary="a b"; x=1'))
    assert found == ("multipart/form-data", {"boundary": "a b", "x": "1"})
    assert media_type(request()) == ("", {})


def test_encodings() -> None:
    refuse_encodings(request(content_encoding="identity"))
    refuse_encodings(request())
    with pytest.raises(RequestError) as raised:
        refuse_encodings(request(content_encoding="gzip"))
    assert raised.value.kind == "UnsupportedMediaType"
