"""A transport that sends together what is written together."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Gathering"]

# More is not copied into one piece.
_JOINED_BYTES = 64 << 10


class Gathering:
    """An asyncio transport around another: what is written in one turn of the event loop leaves in one piece.

    uvicorn writes an answer's head and its body one by one: two calls of the system, and two awakenings of the client.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Put it around a transport."""
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send this at the end of the turn, or at `flush`."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)

    def flush(self) -> None:
        """Send what was written."""
        held, self._held = self._held, []
        if sum(map(len, held)) <= _JOINED_BYTES:
            held = [b"".join(held)]
        for data in held:
            if data:
                self._transport.write(data)

    def write_eof(self) -> None:
        """As `asyncio.WriteTransport.write_eof`."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """As `asyncio.BaseTransport.close`: what was written is sent before."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """As `asyncio.WriteTransport.abort`."""
        self._held = []
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """As `asyncio.WriteTransport.get_write_buffer_size`."""
        return sum(map(len, self._held)) + int(self._transport.get_write_buffer_size())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
