"""A server of known manners, by path, written on sockets so that it can misbehave as well."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Echo:
    """Answers `/echo` at once, `/wait` after `wait` seconds; nothing at all until `stalled_until`."""

    def __init__(self, wait: float = 0.0) -> None:
        self.wait = wait
        self.stalled_until = 0.0
        self.asked = 0
        self.open = 0
        self.most_open = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ")[1].decode()
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                body = await reader.readexactly(int(fields.get(b"content-length", 0)))
                self.asked += 1
                delay = max(self.stalled_until - time.perf_counter(), self.wait if path == "/wait" else 0.0)
                if delay > 0:
                    await asyncio.sleep(delay)
                if path == "/drop":
                    return
                writer.write(_answer(path, body))
                if path in ("/close", "/endless"):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


def _answer(path: str, body: bytes) -> bytes:
    sized = f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    if path == "/busy":
        return b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\n" + sized
    if path == "/close":
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + sized
    if path == "/endless":
        return b"HTTP/1.1 200 OK\r\n\r\n" + body
    if path == "/chunked":
        chunks = [body[start : start + 7] for start in range(0, len(body), 7)]
        told = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in [*chunks, b""])
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + told
    return b"HTTP/1.1 200 OK\r\n" + sized


@contextmanager
def echo_server(wait: float = 0.0) -> Iterator[Echo]:
    """Run one in a thread."""
    echo, loop, started = Echo(wait), asyncio.new_event_loop(), threading.Event()

    async def main() -> None:
        server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
        echo.port = server.sockets[0].getsockname()[1]
        started.set()
        async with server:
            await server.serve_forever()

    def run() -> None:
        task = loop.create_task(main())
        echo.stop = lambda: loop.call_soon_threadsafe(task.cancel)
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        for left in asyncio.all_tasks(loop):
            left.cancel()
        loop.run_until_complete(asyncio.sleep(0))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield echo
    finally:
        echo.stop()
        thread.join(10)
