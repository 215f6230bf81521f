"""HTTP connections that end when their client breaks a bound: uvicorn's protocol, with deadlines and sizes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.serve.limits import Limits
from runtime.serve.operation.gathering import Gathering

__all__ = ["KEEP_ALIVE_SECONDS", "LEAVING", "Bounds", "Connection"]

# Longer than proxies keep theirs (nginx, AWS: 60 s): else they send requests into connections that are just closed.
KEEP_ALIVE_SECONDS = 75.0
# In a request's extensions: a set of what is called when its client leaves, to which an application adds.
LEAVING = "cxr.leaving"
# A body may take `header_seconds`, and longer as long as it comes at this rate.
_BYTES_A_SECOND = 256 << 10
# What a header takes beside its name and value, as HTTP/2 counts it: many empty ones are not free.
_PER_HEADER = 32
# Each piece of a body costs time, whatever its size (1 MiB in chunks of one byte: 0.45 s of the event loop): a body may
# come in so many, and one more for each so many bytes. Beside itself it may bring as much of chunks' sizes and
# extensions as those pieces need, and trailers.
_PIECES, _BYTES_A_PIECE = 10_000, 256
_BYTES_BESIDE, _BESIDE_SHARE = 128 << 10, 1 / 8
# For a client that was refused to read why.
_LINGER_SECONDS = 2.0
_PHRASES = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}


@dataclass
class Bounds:
    """What connections are held to.

    Attributes:
        limits: of the server.
        keep_alive: seconds that a connection may lie idle between requests.
        closed: told why a connection was closed: "too_many", "headers", "slow", "malformed".
        closing: connections are closed after the answer under way, for the server stops.
    """

    limits: Limits
    keep_alive: float = KEEP_ALIVE_SECONDS
    closed: Callable[[str], None] = field(default=lambda _: None)
    closing: bool = False


class Connection(HttpToolsProtocol):
    """A connection. At any time it has a deadline, which the server's ticks look at.

    Idle, it is kept for `keep_alive` seconds (the first request must begin within `header_seconds`). From a request's
    first byte its headers must be there within `header_seconds`; then its body within as long, and longer while it
    comes at 256 KiB/s. A client that does not read its answer is left after `request_seconds`.
    """

    def __init__(self, bounds: Bounds, config: Any, server_state: Any) -> None:
        super().__init__(config=config, server_state=server_state, app_state={})
        self._bounds = bounds
        self._reading_headers = False
        self._reading_body = False
        self._refused = False
        self._leaving: set[Callable[[], None]] = set()
        self._header_bytes = 0
        self._body_bytes = 0
        self._body_pieces = 0
        self._bytes_beside = 0
        self._body_began = 0.0
        self.idle_since = time.monotonic()
        self._deadline = self.idle_since + bounds.limits.header_seconds

    @property
    def idle(self) -> bool:
        """Nothing is being read or answered."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not (self._reading_headers or self._reading_body or self.pipeline)

    def connection_made(self, transport: Any) -> None:
        """A client connected."""
        super().connection_made(Gathering(transport, self.loop))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left, or the connection was closed."""
        super().connection_lost(exc)
        for call in tuple(self._leaving):
            call()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a client."""
        if self._refused:
            return
        counted, body_bytes = self._reading_headers or not self._reading_body, self._body_bytes
        super().data_received(data)
        if not counted and self._reading_body and not self._refused:
            self._bytes_beside += len(data) - (self._body_bytes - body_bytes)
            if (
                self._body_pieces > _PIECES + self._body_bytes / _BYTES_A_PIECE
                or self._bytes_beside > _BYTES_BESIDE + self._body_bytes * _BESIDE_SHARE
            ):
                self._refuse(400, "The body comes in pieces that are too small.", "malformed")
        if counted and self._reading_headers:
            self._header_bytes += len(data)
            if self._header_bytes > self._bounds.limits.header_bytes:
                self._refuse(431, "The headers are larger than is accepted.", "headers")

    def on_message_begin(self) -> None:
        """A request's first byte came."""
        super().on_message_begin()
        self.scope["extensions"] = {LEAVING: self._leaving}
        self._reading_headers = True
        self._header_bytes = 0
        self._set_deadline(self._bounds.limits.header_seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is there; trailers, which come after a body, are passed over."""
        if self._reading_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request's headers are there."""
        self._reading_headers = False
        size = len(self.url) + sum(len(name) + len(value) + _PER_HEADER for name, value in self.headers)
        if size > self._bounds.limits.header_bytes:
            self._refuse(431, "The headers are larger than is accepted.", "headers")
        if self._refused:
            return
        super().on_headers_complete()  # raises for what is no address
        self._reading_body = True
        self._body_bytes = self._body_pieces = self._bytes_beside = 0
        self._body_began = time.monotonic()
        self._set_deadline(self._bounds.limits.header_seconds)
        if self._bounds.closing:
            self.finish()

    def on_body(self, body: bytes) -> None:
        """A piece of a request's body came."""
        if self._refused:
            return
        self._body_bytes += len(body)
        self._body_pieces += 1
        limits = self._bounds.limits
        allowed = limits.header_seconds + self._body_bytes / _BYTES_A_SECOND
        self._deadline = self._body_began + min(allowed, limits.request_seconds)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
        self._reading_body = False
        if self._refused:
            return
        super().on_message_complete()
        self._set_deadline(self._bounds.keep_alive if self.idle else self._bounds.limits.request_seconds)

    def on_response_complete(self) -> None:
        """A request was answered."""
        self.transport.flush()
        if not self._reading_body and not self._reading_headers:
            self._set_deadline(self._bounds.limits.request_seconds if self.pipeline else self._bounds.keep_alive)
        self.idle_since = time.monotonic()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(400, "This is no valid HTTP request.", "malformed")

    def finish(self) -> None:
        """Close the connection once what is under way on it is answered."""
        if self.cycle is not None and self.cycle.keep_alive:
            self.cycle.keep_alive = False
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"close")]

    def tick(self, now: float) -> None:
        """Look at the deadline."""
        if now < self._deadline:
            return
        if self._refused or self.transport.is_closing():  # but the client does not take what is still to be sent
            self.transport.abort()
        elif self._reading_body and not self.cycle.response_started:
            self._refuse(408, "The body did not come in time.", "slow")
        elif self._reading_headers:
            self._refuse(408, "The headers did not come in time.", "slow")
        elif self.idle and not self.transport.get_write_buffer_size():
            self.transport.close()
        elif self._reading_body or self.transport.get_write_buffer_size() or self.idle:
            self._bounds.closed("slow")
            self.transport.abort()
        # Else its request is being answered, which has a deadline of its own.

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def _refuse(self, status: int, message: str, reason: str) -> None:
        """Answer for the application, which has not, and close the connection."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._bounds.closed(reason)
        cycle = self.cycle
        if self.pipeline or (cycle is not None and not cycle.response_complete and not self._reading_body):
            self.transport.abort()  # an earlier request is still to be answered: a client that breaks bounds forgoes it
            return
        if self._reading_body:
            if cycle.response_started:
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        body = orjson.dumps({"error": message, "error_type": "BadRequest"})
        head = [
            f"HTTP/1.1 {status} {_PHRASES[status]}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        # Closing while the client still sends resets the connection, and the answer is lost to it.
        self.transport.write_eof()
        self._set_deadline(_LINGER_SECONDS)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: requests to speak another protocol are answered in this one, and fill no log."""
