"""Clients that are slow, greedy or broken, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from socket import socket

import pytest

from runtime.serve.limits import Limits
from runtime.serve.operation.connections import Bounds
from tests.runtime.serve.operation.fakes import Handlers, Live, make, read_answer

_LIMITS = Limits(header_seconds=0.6, header_bytes=4000, connections=5, request_seconds=1.2)
_GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


class _Served:
    def __init__(self, live: Live, handlers: Handlers, closed: list[str]) -> None:
        self.live, self.handlers, self.closed = live, handlers, closed


@pytest.fixture
def served() -> Iterator[_Served]:
    app, server, handlers = make(_LIMITS)
    closed: list[str] = []
    with Live(app, server, Bounds(_LIMITS, keep_alive=1.0, closed=closed.append)).running() as live:
        yield _Served(live, handlers, closed)


def _ends_within(opened: socket, least: float, most: float) -> bytes:
    """What comes until the server closes, which must take so many seconds."""
    began, got = time.monotonic(), b""
    with contextlib.suppress(ConnectionResetError):
        while piece := opened.recv(1 << 16):
            got += piece
    assert least <= time.monotonic() - began <= most, time.monotonic() - began
    return got


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: y"])
def test_headers_that_do_not_come(served: _Served, sent: bytes) -> None:
    with served.live.connect() as opened:
        opened.sendall(sent)
        answer = _ends_within(opened, 0.5, 1.5)
        assert answer.startswith(b"HTTP/1.1 408 ") == bool(sent)


@pytest.mark.parametrize("piece", [b"X: y\r\n", b"\r\n"])
def test_headers_that_come_drop_by_drop(served: _Served, piece: bytes) -> None:
    with served.live.connect() as opened:
        if piece.strip():
            opened.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        began = time.monotonic()
        opened.settimeout(0.1)
        got = b""
        while time.monotonic() - began < 3:
            try:
                opened.sendall(piece)
                got = opened.recv(1000)
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert 0.5 <= time.monotonic() - began <= 1.5
        assert got.startswith(b"HTTP/1.1 408 ") == bool(piece.strip())


def test_a_body_that_does_not_come(served: _Served) -> None:
    with served.live.connect() as opened:
        opened.sendall(b"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        answer = read_answer(opened)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer
        _ends_within(opened, 0, 0.5)
    assert served.closed == ["slow"]
    served.live.call(_settled(served))
    assert served.handlers.callers[0].gone


async def _settled(served: _Served) -> None:
    for _ in range(500):
        if not served.live.http.requests and not served.live.http.connections:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("requests stay")


def test_a_body_that_comes_slowly_but_steadily(served: _Served) -> None:
    with served.live.connect() as opened:
        size = 10 * (16 << 10)
        opened.sendall(f"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(10):
            time.sleep(0.1)
            opened.sendall(bytes(16 << 10))
        assert read_answer(opened).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "flood",
    [
        b"X-Long: " + b"a" * 5000,
        b"".join(b"X-%d: a\r\n" % number for number in range(200)),
        b"X-Long: " + b"a" * 5000 + b"\r\n\r\n",
        b"a" * 1_000_000,
    ],
)
def test_floods_of_headers(served: _Served, flood: bytes) -> None:
    with served.live.connect() as opened:
        opened.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            opened.sendall(flood + b"\r\n\r\n")
        answer = read_answer(opened)
        assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    with served.live.connect() as opened:
        assert served.live.ask(opened, _GET).startswith(b"HTTP/1.1 200 ")


def test_a_long_address(served: _Served) -> None:
    with served.live.connect() as opened:
        answer = served.live.ask(opened, b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431 ")


def test_headers_as_large_as_they_may_be(served: _Served) -> None:
    with served.live.connect() as opened:
        head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 3500 + b"\r\n\r\n"
        for _ in range(3):
            assert served.live.ask(opened, head).startswith(b"HTTP/1.1 200 ")
    with served.live.connect() as opened:  # a body that ends in the piece in which the next request begins
        opened.sendall(b"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n" + bytes(10_000))
        time.sleep(0.05)
        opened.sendall(bytes(10_000) + _GET[:20])
        assert read_answer(opened).startswith(b"HTTP/1.1 200 ")
        assert served.live.ask(opened, _GET[20:]).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "broken",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab",
    ],
)
def test_what_is_no_http(served: _Served, broken: bytes) -> None:
    with served.live.connect() as opened:
        answer = served.live.ask(opened, broken)
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert b'"error"' in answer
        _ends_within(opened, 0, 3)
    served.live.call(_settled(served))


_CHUNKED = b"POST /length HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("piece", "count"),
    [(b"1\r\nx\r\n", 200_000), (b"a\r\n0123456789\r\n", 200_000), (b"1;" + b"e" * 100 + b"\r\nx\r\n", 20_000)],
)
def test_bodies_in_tiny_pieces(served: _Served, piece: bytes, count: int) -> None:
    with served.live.connect() as opened:
        opened.sendall(_CHUNKED)
        with contextlib.suppress(ConnectionError):
            opened.sendall(piece * count)
        answer = read_answer(opened)
        assert answer.startswith(b"HTTP/1.1 400 "), answer
    served.live.call(_settled(served))
    assert served.closed == ["malformed"]


@pytest.mark.parametrize("trailer", [b"X: y\r\n" * 100_000, b"X: " + b"y" * 600_000])
def test_floods_of_trailers(served: _Served, trailer: bytes) -> None:
    with served.live.connect() as opened:
        opened.sendall(_CHUNKED + b"3\r\nabc\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            opened.sendall(trailer)
        assert read_answer(opened).startswith(b"HTTP/1.1 400 ")
    served.live.call(_settled(served))


@pytest.mark.parametrize(("size", "count"), [(3, 5_000), (1_000, 2_000), (100_000, 20)])
def test_bodies_in_pieces(served: _Served, size: int, count: int) -> None:
    with served.live.connect() as opened:
        opened.sendall(_CHUNKED)
        opened.sendall((b"%x\r\n" % size + bytes(size) + b"\r\n") * count)
        answer = served.live.ask(opened, b"0\r\nX-Trailer: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"length":%d,' % (size * count) in answer


def test_too_many_connections(served: _Served) -> None:
    opened = [served.live.connect() for _ in range(5)]
    for each in opened:
        assert served.live.ask(each, _GET).startswith(b"HTTP/1.1 200 ")
    with served.live.connect() as sixth:
        assert _ends_within(sixth, 0, 0.5) == b""
    assert served.closed == ["too_many"]
    opened[0].close()
    time.sleep(0.1)
    with served.live.connect() as again:
        assert served.live.ask(again, _GET).startswith(b"HTTP/1.1 200 ")
    for each in opened:
        each.close()


def test_idle_connections_are_kept_for_a_while(served: _Served) -> None:
    with served.live.connect() as opened:
        served.live.ask(opened, _GET)
        time.sleep(0.7)
        assert served.live.ask(opened, _GET).startswith(b"HTTP/1.1 200 ")
        assert _ends_within(opened, 0.8, 1.8) == b""
    assert served.closed == []


def test_a_client_that_does_not_read(served: _Served) -> None:
    with served.live.connect() as opened:
        opened.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.1)
        assert served.live.http.connections == 1
        served.live.call(_settled(served))


def test_requests_in_one_piece_are_answered_in_order(served: _Served) -> None:
    with served.live.connect() as opened:
        post = b"POST /sleep HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n0.05"
        opened.sendall(post + _GET)
        got = b""
        while got.count(b"HTTP/1.1 200 ") < 2:
            got += read_answer(opened)
        assert got.index(b"slept") < got.index(b"alive")


def test_an_upgrade_is_not_taken(served: _Served) -> None:
    with served.live.connect() as opened:
        head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        assert served.live.ask(opened, head).startswith(b"HTTP/1.1 200 ")
