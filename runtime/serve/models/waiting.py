"""Waiting on the event loop for what other threads do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from runtime.serve.caller import LATE, Caller
from runtime.serve.request_errors import RequestError
from runtime.serve.time_limits import TimeLimit

__all__ = ["call_later", "in_time"]

_Result = TypeVar("_Result")


async def in_time(caller: Caller, future: asyncio.Future[_Result]) -> _Result:
    """Wait for something, and no longer than until the caller's deadline; raises RequestError (504) then."""
    remaining = caller.remaining()
    if remaining is None:
        return await future
    try:
        with TimeLimit(remaining):
            return await future
    except asyncio.TimeoutError:
        raise RequestError("Timeout", LATE) from None


def call_later(
    loop: asyncio.AbstractEventLoop, settle: Callable[[Exception | None], None], error: Exception | None
) -> None:
    """Call something on an event loop, from another thread; nothing where the loop was closed."""
    try:
        loop.call_soon_threadsafe(settle, error)
    except RuntimeError:  # the loop was closed: nobody waits any more
        return
