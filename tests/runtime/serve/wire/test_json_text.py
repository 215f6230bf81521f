"""JSON: what is none, how deep it may be, and numbers as the engine has them."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from runtime.serve.request_errors import RequestError
from runtime.serve.wire.json_text import OFF_LOOP_BYTES, answer, numbers, parse_json


def parsed(body: bytes, nesting: int = 4) -> object:
    return asyncio.run(parse_json(body, nesting))


@pytest.mark.parametrize("pad", [0, OFF_LOOP_BYTES + 1])
def test_depth(pad: int) -> None:
    for depth in range(1, 9):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            body = (opening * depth + '"[[[[[["' + closing * depth + " " * pad).encode()
            if depth <= 4:
                assert parsed(body) == json.loads(body)
            else:
                with pytest.raises(RequestError) as raised:
                    parsed(body)
                assert raised.value.kind == "BadRequest"
    assert parsed(b'"text"') == "text"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nothing",
        b"{'a': 1}",
        b"[NaN]",
        b"[1] 2",
        b"\xff",
        b'"\\ud800"',
        b"[" * 100_000,
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_none(body: bytes) -> None:
    with pytest.raises(RequestError) as raised:
        parsed(body)
    assert raised.value.kind == "BadRequest"
    assert "nothing" not in raised.value.message


def test_what_becomes_a_multiple_of_its_size() -> None:
    for item in (b"[]", b"{}", b"1"):
        body = b"[" + b",".join([item] * 1_100_000) + b"]"
        with pytest.raises(RequestError) as raised:
            parsed(body)
        assert raised.value.kind == "TooLarge"
    assert len(parsed(b"[" + b",".join([b"1"] * 1_000_000) + b"]")) == 1_000_000  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [3, 2000])
def test_numbers_come_back_to_the_bit(rows: int) -> None:
    array = np.random.default_rng(0).standard_normal((rows, 128)).astype(np.float32)[:, ::2]
    assert (array.size > 32 << 10) == (rows == 2000)  # both ways of writing

    async def write() -> bytes:
        return bytes(answer({"rows": await numbers(array)}).body)

    found = np.array(json.loads(asyncio.run(write()))["rows"], np.float32)
    np.testing.assert_array_equal(found, array)


def test_what_is_no_number_is_null() -> None:
    assert answer([np.float32(np.nan), float("inf")]).body == b"[null,null]"
