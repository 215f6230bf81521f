"""One keep-alive connection of HTTP/1.1 with one request at a time, as little work a request as asyncio allows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

__all__ = ["NEVER", "NO_CONNECTION", "UNANSWERED", "Answer", "Connection", "connect"]

# What stands for a status where there is none: no connection was to be had; it ended before the answer did; no answer
# came within the patience.
NO_CONNECTION, UNANSWERED, NEVER = 0, -1, -3
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        status: HTTP's, or UNANSWERED or NEVER.
        body: its bytes; as many as came where there is no whole answer.
        retry_after: seconds, -1 where the answer does not say.
        closes: whether the connection cannot be used again.
    """

    status: int
    body: bytes
    retry_after: float = -1.0
    closes: bool = False


class Connection(asyncio.Protocol):
    """A connection; `ask` awaits the answer to a whole request."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._received = bytearray()
        self._head: tuple[int, float, bool, int | None, bool] | None = None
        self._ended = False
        self._patience: asyncio.TimerHandle | None = None

    @property
    def ended(self) -> bool:
        """Whether it can send nothing any more."""
        return self._ended

    def ask(self, request: bytes, patience: float) -> asyncio.Future[Answer]:
        """Send a request and wait for its answer; a connection that ends first gives UNANSWERED.

        Args:
            request: whole.
            patience: seconds after which the answer is NEVER, and the connection of no use.
        """
        loop = asyncio.get_running_loop()
        self._waiting = waiting = loop.create_future()
        if self._ended or self._transport is None:
            waiting.set_result(Answer(UNANSWERED, b"", closes=True))
        else:
            self._patience = loop.call_later(patience, self._give_up)
            self._transport.write(request)
        return waiting

    def _give_up(self) -> None:
        self._answer(Answer(NEVER, bytes(self._received), closes=True))
        self.close()

    def _answer(self, answer: Answer) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def close(self) -> None:
        """End it at once, whatever it waits for."""
        self._ended = True
        if self._patience is not None:
            self._patience.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`; an answer without a length ends here."""
        self._ended = True
        if self._head is not None and self._head[3] is None and not self._head[4] and exc is None:
            self._finish(bytes(self._received))
        else:
            self._answer(Answer(UNANSWERED, bytes(self._received), closes=True))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._received += data
        if self._head is None:
            end = self._received.find(_END_OF_HEAD)
            if end < 0:
                return
            self._head = _read_head(bytes(self._received[:end]))
            del self._received[: end + len(_END_OF_HEAD)]
        length, chunked = self._head[3], self._head[4]
        if chunked:
            body = _unchunked(self._received)
            if body is not None:
                self._finish(body)
        elif length is not None and len(self._received) >= length:
            self._finish(bytes(self._received[:length]))

    def _finish(self, body: bytes) -> None:
        assert self._head is not None
        status, retry_after, closes, *_ = self._head
        self._received.clear()
        self._head = None
        if closes:
            self._ended = True
        self._answer(Answer(status, body, retry_after, closes))


def _read_head(head: bytes) -> tuple[int, float, bool, int | None, bool]:
    """Status, Retry-After, whether it closes, its length where it has one, whether it comes in chunks."""
    first, *lines = head.split(b"\r\n")
    retry_after, closes, length, chunked = -1.0, first.startswith(b"HTTP/1.0"), None, False
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-length":
            length = int(value)
        elif name == b"connection":
            closes = value.strip().lower() == b"close"
        elif name == b"transfer-encoding":
            chunked = value.strip().lower() == b"chunked"
        elif name == b"retry-after":
            retry_after = float(value) if value.strip().isdigit() else -1.0
    status = int(first.split(b" ", 2)[1])
    if status == 204:
        length = 0
    return status, retry_after, closes or (length is None and not chunked), length, chunked


def _unchunked(received: bytearray) -> bytes | None:
    """The body of chunks; None where the last is not there yet."""
    body, place = bytearray(), 0
    while True:
        end = received.find(b"\r\n", place)
        if end < 0:
            return None
        size = int(received[place:end].split(b";")[0], 16)
        if len(received) < end + size + 4:
            return None
        if size == 0:
            return bytes(body)
        body += received[end + 2 : end + 2 + size]
        place = end + size + 4


async def connect(host: str, port: int) -> Connection | None:
    """Open a connection; None where the server takes none."""
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(Connection, host, port)
    except OSError:
        return None
    return connection
