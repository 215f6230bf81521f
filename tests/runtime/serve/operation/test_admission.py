"""How much is taken at a time, and clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from runtime.serve.caller import Caller
from runtime.serve.limits import Limits
from runtime.serve.operation.admission import Admission, Load
from runtime.serve.operation.connections import LEAVING, Bounds
from runtime.serve.request_errors import RequestError
from tests.runtime.serve.operation.fakes import Handlers, Live, make

_LIMITS = Limits(requests=2, json_bytes=1000, image_bytes=2000, body_bytes=100_000, header_seconds=5)


@pytest.fixture
def load() -> Load:
    return Load()


@pytest.fixture
def served(load: Load) -> Iterator[tuple[Live, Handlers]]:
    app, server, handlers = make(_LIMITS, load=load)
    with Live(app, server, Bounds(_LIMITS)).running() as live:
        yield live, handlers


def _post(path: str, length: int, body: bytes = b"", headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n".encode() + body


def _until(true: object) -> None:
    end = time.monotonic() + 10
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_more_requests_than_may_be_are_told_to_come_again(served: tuple[Live, Handlers], load: Load) -> None:
    live, handlers = served
    waiting = [live.connect() for _ in range(2)]
    for each in waiting:
        each.sendall(_post("/wait", 1, b"x"))
        assert handlers.entered.acquire(timeout=10)
    assert (load.requests, load.body_bytes) == (2, 2)
    with live.connect() as third:
        began = time.monotonic()
        answer = live.ask(third, _post("/length", 0))
        assert time.monotonic() - began < 0.5
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in answer.lower()
        for path in ("/health", "/ready", "/metrics"):
            assert live.ask(third, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200 "), path
        live.loop.call_soon_threadsafe(handlers.go.set)
        for each in waiting:
            assert live.ask(each, b"").endswith(b"waited")
            each.close()
        assert live.ask(third, _post("/length", 0)).startswith(b"HTTP/1.1 200 ")
    _until(lambda: (load.requests, load.body_bytes) == (0, 0))


def test_a_server_with_too_much_work_refuses_before_it_reads(served: tuple[Live, Handlers]) -> None:
    live, handlers = served
    live.server.models.is_busy = 7.2
    with live.connect() as client:
        answer = live.ask(client, _post("/length", 50_000))
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 8" in answer.lower()
        assert b'"error_type":"Overloaded"' in answer
    with live.connect() as client:
        assert live.ask(client, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        live.server.models.is_busy = None
        assert live.ask(client, _post("/length", 0)).startswith(b"HTTP/1.1 200 ")
    assert len(handlers.callers) == 1


@pytest.mark.parametrize("told", [True, False])
def test_large_bodies_are_refused_with_and_without_a_length(told: bool) -> None:
    client = TestClient(make(_LIMITS)[0])
    most = 2000 + (64 << 10)

    def content(size: int) -> object:
        return bytes(size) if told else iter([bytes(size // 2), bytes(size - size // 2)])

    assert client.post("/length", content=content(most)).json()["length"] == most
    answer = client.post("/length", content=content(most + 1))
    assert (answer.status_code, answer.json()["error_type"]) == (413, "TooLarge")


def test_bodies_are_counted_together(served: tuple[Live, Handlers], load: Load) -> None:
    live, _ = served
    with live.connect() as slow, live.connect() as other:
        slow.sendall(_post("/length", 60_000, bytes(50_000)))
        _until(lambda: load.body_bytes == 50_000)
        assert live.ask(other, _post("/length", 60_000)).startswith(b"HTTP/1.1 429 ")
        slow.sendall(bytes(10_000))
        assert live.ask(slow, b"").startswith(b"HTTP/1.1 200 ")
        _until(lambda: load.body_bytes == 0)
    with live.connect() as again:
        assert live.ask(again, _post("/length", 60_000, bytes(60_000))).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_is_noticed(served: tuple[Live, Handlers], load: Load, reset: bool) -> None:
    live, handlers = served
    opened = live.connect()
    opened.sendall(_post("/wait", 3, b"abc"))
    assert handlers.entered.acquire(timeout=10)
    assert not handlers.gone.wait(0.1)
    if reset:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    opened.close()
    assert handlers.gone.wait(5)
    live.loop.call_soon_threadsafe(handlers.go.set)
    _until(lambda: load.requests == 0)


def test_a_client_that_stays_has_not_left(served: tuple[Live, Handlers]) -> None:
    live, handlers = served
    with live.connect() as opened:
        for _ in range(3):
            live.ask(opened, _post("/length", 3, b"abc"))
    assert [each.gone for each in handlers.callers] == [False] * 3


def test_a_client_that_leaves_within_its_body(served: tuple[Live, Handlers], load: Load) -> None:
    live, handlers = served
    opened = live.connect()
    opened.sendall(_post("/length", 1000, b"abc"))
    _until(lambda: load.body_bytes == 3)
    opened.close()
    _until(lambda: (load.requests, load.body_bytes) == (0, 0))
    assert handlers.callers[0].gone


def test_a_refusal_before_the_body_was_asked_for_ends_the_connection(served: tuple[Live, Handlers]) -> None:
    """Else the server would take the client's next request for the body, or the other way round."""
    live, _ = served
    with live.connect() as opened:
        answer = live.ask(opened, _post("/nothing", 10, headers="Expect: 100-continue\r\n"))
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"connection: close" in answer.lower()
    with live.connect() as opened:
        opened.sendall(_post("/length", 2, headers="Expect: 100-continue\r\n"))
        assert opened.recv(100).startswith(b"HTTP/1.1 100 ")
        answer = live.ask(opened, b"ab")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" not in answer.lower()


@pytest.mark.parametrize("length", [b"0", b"1000000"])
def test_a_connection_keeps_nothing_of_its_requests(load: Load, length: bytes) -> None:
    """Also of one that is refused by its length: connections live long."""

    async def app(scope: object, receive: object, send: object) -> None:
        assert leaving == {caller.leave}

    async def nothing(*_: object) -> None:
        raise AssertionError("nothing is read or sent")

    leaving: set[object] = set()
    caller = Caller()
    admission = Admission(app, limits=_LIMITS, load=load, busy=lambda: None)
    scope = {
        **{"type": "http", "method": "POST", "path": "/length", "headers": [(b"content-length", length)]},
        **{"state": {"caller": caller}, "extensions": {LEAVING: leaving}},
    }
    with pytest.raises(RequestError) if int(length) else contextlib.nullcontext():
        asyncio.run(admission(scope, nothing, nothing))
    assert not leaving
    assert load.requests == 0
