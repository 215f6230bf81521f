"""Waiting on the event loop for what other threads do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from runtime.serve.caller import LATE, Caller
from runtime.serve.request_errors import RequestError
from runtime.serve.time_limits import TimeLimit

__all__ = ["Deliveries", "in_time"]

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


class Deliveries:
    """Futures of an event loop that other threads end.

    To wake a loop is a call of the system, at which the other thread loses the interpreter: it does so once for all
    that it ends together.

    Attributes:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """None yet."""
        self.loop = loop
        self._ended: deque[tuple[asyncio.Future[None], Exception | None]] = deque()

    def future(self) -> tuple[asyncio.Future[None], Callable[[Exception | None], Callable[[], None]]]:
        """A future, and what ends it by an error or None, and returns what has to be called then, from any thread."""
        future: asyncio.Future[None] = self.loop.create_future()

        def end(error: Exception | None) -> Callable[[], None]:
            self._ended.append((future, error))
            return self._wake

        return future, end

    def _wake(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self._settle)
        except RuntimeError:  # the loop was closed: nobody waits any more
            return

    def _settle(self) -> None:
        while self._ended:
            future, error = self._ended.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
