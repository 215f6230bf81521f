"""How many requests and how many bytes of bodies are held at a time; notices of clients that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from runtime.serve.caller import Caller
from runtime.serve.limits import Limits
from runtime.serve.operation.connections import LEAVING
from runtime.serve.operation.gate import HEALTH
from runtime.serve.request_errors import RequestError

__all__ = ["Admission", "Load"]

_UNCOUNTED = HEALTH | {"/metrics"}
# Of multipart's own lines, beside the images.
_MARGIN = 64 << 10
_AGAIN_SECONDS = 1.0


class Load:
    """What is under way now.

    Attributes:
        requests: that are being answered.
        body_bytes: of their bodies, as far as they came.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.body_bytes = 0


class Admission:
    """An ASGI middleware that refuses what would be too much, before it is read.

    Needs the caller in the request's state. Requests for health and metrics are always answered.
    """

    def __init__(self, app: Any, *, limits: Limits, load: Load, busy: Callable[[], float | None]) -> None:
        """Put it before an application.

        Args:
            app: the application.
            limits: of requests.
            load: where it keeps its counts.
            busy: seconds after which work is taken again, None where it is now.
        """
        self.app = app
        self._busy = busy
        self._limits = limits
        self._load = load

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Raise RequestError for a request that is too much."""
        if scope["type"] != "http" or scope["path"] in _UNCOUNTED:
            await self.app(scope, receive, send)
            return
        load, limits = self._load, self._limits
        if load.requests >= limits.requests:
            raise RequestError("Overloaded", "The server is answering as many requests as it may.", _AGAIN_SECONDS)
        if scope["method"] == "POST" and (again := self._busy()) is not None:
            raise RequestError("Overloaded", "The server has more work than it can do in time.", again)
        body = _Body(receive, scope["state"]["caller"], limits, load, scope.get("extensions", {}).get(LEAVING))
        load.requests += 1
        try:
            body.expect(dict(scope["headers"]).get(b"content-length", b""))
            await self.app(scope, body.receive, send)
        finally:
            load.requests -= 1
            body.end()


class _Body:
    """The messages of a request's body, counted; once all have come, somebody listens for the client's leaving.

    Where the connection tells of it, no task has to wait for that.
    """

    def __init__(
        self, receive: Any, caller: Caller, limits: Limits, load: Load, told: set[Callable[[], None]] | None
    ) -> None:
        self._receive = receive
        self._caller = caller
        self._told = told
        if told is not None:
            told.add(caller.leave)
        self._load = load
        self._most = max(limits.json_bytes, limits.image_bytes) + _MARGIN
        self._most_together = limits.body_bytes
        self._taken = 0
        self._leaving: asyncio.Task[Any] | None = None

    def expect(self, length: bytes) -> None:
        """Refuse a body by its Content-Length."""
        if length.isdigit():
            self._check(int(length))

    async def receive(self) -> Any:
        """The next message, as ASGI has it."""
        if self._leaving is not None:
            return await asyncio.shield(self._leaving)
        message = await self._receive()
        if message["type"] != "http.request":
            self._caller.leave()
            return message
        size = len(message.get("body", b""))
        self._check(self._taken + size)
        self._taken += size
        self._load.body_bytes += size
        if self._told is None and not message.get("more_body", False):
            self._leaving = asyncio.get_running_loop().create_task(self._listen())
        return message

    def end(self) -> None:
        """The request was answered."""
        self._load.body_bytes -= self._taken
        if self._told is not None:
            self._told.discard(self._caller.leave)
        if self._leaving is not None:
            self._leaving.cancel()

    def _check(self, size: int) -> None:
        if size > self._most:
            raise RequestError("TooLarge", f"The body has more than {self._most} bytes, the most that is accepted.")
        if self._load.body_bytes + size - self._taken > self._most_together:
            raise RequestError("Overloaded", "The server holds as many bodies as it may.", _AGAIN_SECONDS)

    async def _listen(self) -> Any:
        message = await self._receive()
        self._caller.leave()
        return message
