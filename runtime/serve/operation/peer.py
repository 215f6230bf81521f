"""Calls between a process and its workers, as lines of JSON on a pair of sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from runtime.serve.operation.logs import log_failure

__all__ = ["Handler", "Peer", "PeerLeft"]

# Metrics of a process are some 100 kB.
_MOST_BYTES = 64 << 20

# Argument → what is answered; both are JSON.
Handler = Callable[[Any], Awaitable[Any]]


class PeerLeft(Exception):  # noqa: N818 (it may well be meant)
    """The other process has ended."""


class Peer:
    """The other end. Used on the event loop alone."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: Mapping[str, Handler]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = False

    @classmethod
    async def open(cls, connected: socket.socket, handlers: Mapping[str, Handler]) -> Peer:
        """Talk over a connected socket, which belongs to this object from now on; `run` must run.

        Args:
            connected: one of a pair.
            handlers: what the other end may call, by name.
        """
        connected.setblocking(False)
        return cls(*await asyncio.open_connection(sock=connected, limit=_MOST_BYTES), handlers)

    async def run(self) -> None:
        """Answer and be answered until the other end leaves."""
        try:
            with contextlib.suppress(OSError, ValueError):  # a line that is longer than any
                while line := await self._reader.readline():
                    message = json.loads(line)
                    if "call" in message:
                        task = asyncio.get_running_loop().create_task(self._answer(message))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
                    elif (waiting := self._waiting.pop(message["answer"], None)) and not waiting.done():
                        waiting.set_result(message["value"])
        finally:
            self._left = True
            for each in self._waiting.values():
                if not each.done():
                    each.set_exception(PeerLeft())
            self._waiting.clear()
            self._writer.close()

    async def call(self, name: str, value: Any = None, seconds: float | None = None) -> Any:
        """Call a handler of the other end.

        Raises:
            PeerLeft: it has ended, or ends.
            asyncio.TimeoutError: it did not answer in so many seconds.
        """
        if self._left:
            raise PeerLeft
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._send({"call": name, "number": number, "value": value})
        try:
            return await asyncio.wait_for(answer, seconds)
        finally:
            self._waiting.pop(number, None)

    async def _answer(self, message: Mapping[str, Any]) -> None:
        try:
            value = await self._handlers[message["call"]](message["value"])
        except Exception as error:
            log_failure(f"the call '{message['call']}' between processes failed", error)
            value = None
        self._send({"answer": message["number"], "value": value})

    def _send(self, message: Mapping[str, Any]) -> None:
        if not self._left and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")
