"""JSON of requests, and JSON of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from runtime.serve.request_errors import RequestError

__all__ = ["OFF_LOOP_BYTES", "answer", "numbers", "parse_json", "parse_now"]

# Larger bodies are parsed in a thread: 64 kB take 0.1 ms on the loop.
OFF_LOOP_BYTES = 64 << 10
# An empty object takes three bytes of text and seventy of memory: at most so many values, as commas and brackets count.
_VALUES = 1 << 20
_PIECE = 1 << 20
# More numbers are written in a thread, some rows at a time, between which the loop gets its turn.
_OFF_LOOP_NUMBERS = 32 << 10


async def parse_json(body: bytes, nesting: int) -> Any:
    """Parse JSON.

    Args:
        body: UTF-8.
        nesting: of objects and lists within each other.

    Raises:
        RequestError: no JSON, or nested deeper (400); more than a million values (413).
    """
    if len(body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(parse_now, body, nesting)
    return parse_now(body, nesting)


def parse_now(body: bytes, nesting: int) -> Any:
    """The same, at once."""
    if _values(body) > _VALUES:
        raise RequestError("TooLarge", f"The JSON of the body has more than {_VALUES:,} values. Send fewer a request.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # Its message holds the whole body as an attribute; only the place is told.
        where = f" (line {error.lineno}, column {error.colno})" if body else ": it is empty"
        raise RequestError("BadRequest", f"The body is no valid JSON{where}.") from None
    depth, level = 0, [value] if isinstance(value, (dict, list)) else []
    while level:
        depth += 1
        if depth > nesting:
            raise RequestError("BadRequest", f"The JSON of the body is nested deeper than {nesting} levels.")
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, (dict, list))
        ]
    return value


def _values(body: bytes) -> int:
    """About how many values there are; piece by piece, between which other threads run."""
    pieces = range(0, len(body), _PIECE)
    return sum(body.count(each, start, start + _PIECE) for start in pieces for each in (b",", b"[", b"{"))


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer; arrays of numpy are written as lists, NaN as null."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, dict(headers or {}), media_type="application/json")


async def numbers(array: NDArray[np.float32]) -> Any:
    """What `answer` writes as the rows of an array, without holding up the loop where they are many.

    Args:
        array: float32 (N, D).
    """
    rows = np.ascontiguousarray(array)
    return await asyncio.to_thread(_written, rows) if rows.size > _OFF_LOOP_NUMBERS else rows


def _written(rows: NDArray[np.float32]) -> list[orjson.Fragment]:
    return [orjson.Fragment(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)) for row in rows]
