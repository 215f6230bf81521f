"""The outermost middleware: who asks and until when, what is answered to what is raised, headers, log line, metrics."""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runtime.serve.caller import Caller
from runtime.serve.operation.logs import Outcome, log_failure, log_outcome
from runtime.serve.request_errors import STATUS, RequestError
from runtime.serve.time_limits import TimeLimit

__all__ = ["CLIENT_LEFT", "Frame", "as_request_error"]

# What nginx logs where a client closed its connection before it was answered; never sent.
CLIENT_LEFT = 499
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TIMEOUTS = (b"x-request-timeout", b"x-request-timeout-seconds")
# Work that keeps to its deadline by itself says more than the request's end does.
_GRACE_SECONDS = 0.5
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
_KINDS = {status: kind for kind, status in reversed(tuple(STATUS.items()))}

# Error, path, request id → a Starlette response.
Answer = Callable[[Exception, str, str], Any]


class Frame:
    """An ASGI middleware around everything of the application's own."""

    def __init__(
        self,
        app: Any,
        *,
        answer: Answer,
        template: Callable[[str], str],
        record: Callable[[Outcome], None],
        request_seconds: float,
    ) -> None:
        """Put it around an application.

        Args:
            app: the application.
            answer: makes a response of an error, in the dialect of the path.
            template: of a path: what routes are declared with, never what a client wrote.
            record: told of every request when it is over.
            request_seconds: that a request takes at most.
        """
        self.app = app
        self._answer = answer
        self._template = template
        self._record = record
        self._request_seconds = request_seconds
        # Names, no secrets: to ask the system for random numbers costs more.
        self._ids = random.Random()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request; raises nothing but what cancels it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        caller = Caller(given.decode() if _REQUEST_ID.fullmatch(given) else f"{self._ids.getrandbits(64):016x}")
        scope.setdefault("state", {})["caller"] = caller
        outcome = Outcome(scope["method"], self._template(scope["path"]), caller, time.perf_counter())

        async def send_framed(message: Any) -> None:
            if message["type"] == "http.response.start":
                outcome.status = message["status"]
                message = {**message, "headers": _framed(message, caller, headers, outcome)}
            await send(message)

        async def receive_noted() -> Any:
            outcome.body_asked = True
            return await receive()

        try:
            await self._run(scope, receive_noted, send_framed, headers, caller)
        except ClientDisconnect:
            caller.leave()
        except Exception as error:
            outcome.error = error
            begun = outcome.status != 0
            if not begun:
                await self._refuse(error, scope, receive, send_framed)
            if begun or outcome.status in (0, STATUS["Backend"]):
                log_failure("a request failed", error, caller.request_id)
        finally:
            outcome.status = outcome.status or CLIENT_LEFT
            outcome.seconds = time.perf_counter() - outcome.began
            self._record(outcome)
            log_outcome(outcome)

    async def _run(self, scope: Any, receive: Any, send: Any, headers: Mapping[bytes, bytes], caller: Caller) -> None:
        """Run the application, and no longer than until the deadline."""
        seconds = _seconds(headers, self._request_seconds)
        caller.deadline = time.monotonic() + seconds
        limit = TimeLimit(seconds + _GRACE_SECONDS)
        try:
            with limit:
                await self.app(scope, receive, send)
        except asyncio.CancelledError:
            caller.leave()
            raise
        except asyncio.TimeoutError:
            if not limit.expired:
                raise
            caller.leave()
            raise RequestError("Timeout", "The request took longer than it may.") from None

    async def _refuse(self, error: Exception, scope: Any, receive: Any, send: Any) -> None:
        request_id = scope["state"]["caller"].request_id
        try:
            response = self._answer(error, scope["path"], request_id)
        except Exception as second:
            log_failure("an error could not be put into words", second, request_id)
            response = Response(b'{"error":"internal error"}', STATUS["Backend"], media_type="application/json")
        await response(scope, receive, send)


async def as_request_error(_: Any, error: Any) -> Any:
    """A handler of Starlette's HTTPException (404, 405), which is raised again as RequestError."""
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code, "BadRequest")
    messages = {"NotFound": "There is nothing at this address.", "MethodNotAllowed": "The method is not allowed here."}
    raise RequestError(kind, messages.get(kind, "The request cannot be read."), headers=error.headers or {}) from None


def _seconds(headers: Mapping[bytes, bytes], most: float) -> float:
    """Until when a client waits, in seconds from now, at most as long as requests may take."""
    for name in _TIMEOUTS:
        if name in headers:
            try:
                given = float(headers[name])
            except ValueError:
                given = math.nan
            if not given > 0:
                raise RequestError("BadRequest", f"The header {name.decode()} is no number of seconds above 0.")
            return min(given, most)
    return most


def _framed(message: Any, caller: Caller, request: Mapping[bytes, bytes], outcome: Outcome) -> list[Any]:
    headers = list(message.get("headers", ()))
    there = {name.lower() for name, _ in headers}
    headers += [each for each in _HEADERS.items() if each[0] not in there]
    headers.append((b"x-request-id", caller.request_id.encode()))
    if b"expect" in request and not outcome.body_asked:
        # The client waits for leave to send its body, and now never gets it: what it sends next may or may not be that.
        headers.append((b"connection", b"close"))
    return headers
