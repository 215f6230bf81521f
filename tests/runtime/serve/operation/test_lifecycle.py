"""Stopping, reloading and taking turns, in this process."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
import time
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from runtime.errors import InputError
from runtime.serve.limits import Limits
from runtime.serve.operation.connections import Bounds
from runtime.serve.operation.http_server import HttpServer
from runtime.serve.operation.keys import Keys
from runtime.serve.operation.lifecycle import Lifecycle
from runtime.serve.operation.peer import Peer, PeerLeft
from runtime.serve.operation.sockets import bind_tcp, bind_unix, let_none_connect
from runtime.serve.operation.turns import Turns
from tests.runtime.serve.operation.fakes import Handlers, Live, logged, make, read_answer

_GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
_WAIT = b"POST /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"


@pytest.fixture
def served() -> Iterator[tuple[Live, Handlers]]:
    app, server, handlers = make()
    with Live(app, server, Bounds(Limits())).running() as live:
        yield live, handlers


def test_idle_connections_may_send_one_more_request_when_the_server_stops(served: tuple[Live, Handlers]) -> None:
    live, _ = served
    with live.connect() as idle, live.connect() as late:
        for each in (idle, late):
            assert b"connection: close" not in live.ask(each, _GET).lower()
        began = time.monotonic()
        stopping = asyncio.run_coroutine_threadsafe(live.http.stop(10), live.loop)
        time.sleep(0.4)
        answer = live.ask(late, _GET)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer.lower()
        assert late.recv(10) == b""
        assert idle.recv(10) == b""
        assert 0.8 <= time.monotonic() - began <= 3
        assert stopping.result(5) is True


def test_what_waits_to_be_accepted_is_answered_when_the_server_stops(served: tuple[Live, Handlers]) -> None:
    live, _ = served

    async def stop_with_connections_waiting() -> list[socket.socket]:
        waiting = [socket.create_connection(live.address) for _ in range(20)]  # the loop is busy here, and accepts none
        live.stopping = asyncio.create_task(live.http.stop(10))  # type: ignore[attr-defined]
        return waiting

    waiting = live.call(stop_with_connections_waiting())
    for each in waiting:
        assert live.ask(each, _GET).startswith(b"HTTP/1.1 200 ")
        each.close()
    with pytest.raises(ConnectionRefusedError):
        live.connect()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sockets have filters on Linux")
def test_who_would_connect_at_the_last_moment_waits_for_who_comes_after() -> None:
    (listening,) = bind_tcp("127.0.0.1", 0)
    address = listening.getsockname()
    listening.listen()
    with socket.create_connection(address) as before:
        let_none_connect(listening)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.2)
        before.sendall(b"asked")
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(5)
            assert accepted.recv(5) == b"asked"
            accepted.sendall(b"answered")
            assert before.recv(8) == b"answered"
        with pytest.raises(BlockingIOError):
            listening.accept()
        late = socket.socket()
        late.setblocking(False)
        late.connect_ex(address)
        listening.close()
        (successor,) = bind_tcp("127.0.0.1", address[1])
        with successor, late:
            successor.listen()
            assert select.select([successor], [], [], 5)[0], "it tries again"


def test_requests_in_one_piece_are_all_answered_when_the_server_stops(served: tuple[Live, Handlers]) -> None:
    live, handlers = served
    with live.connect() as opened:
        opened.sendall(_WAIT + _WAIT)
        assert handlers.entered.acquire(timeout=10)
        stopping = asyncio.run_coroutine_threadsafe(live.http.stop(10), live.loop)
        time.sleep(0.1)
        live.loop.call_soon_threadsafe(handlers.go.set)
        got = b""
        while piece := opened.recv(1 << 16):
            got += piece
        assert got.count(b"waited") == 2
        assert got.lower().count(b"connection: close") == 1
        assert stopping.result(5) is True


def test_what_is_not_answered_in_time_is_told(served: tuple[Live, Handlers]) -> None:
    live, handlers = served
    with live.connect() as opened:
        opened.sendall(_WAIT)
        assert handlers.entered.acquire(timeout=10)
        assert live.call(live.http.stop(0.2)) is False
        live.loop.call_soon_threadsafe(handlers.go.set)
        assert read_answer(opened).endswith(b"waited"), "the connection stays until it is aborted"


def test_connections_are_shared_out() -> None:
    async def run() -> list[int]:
        (listening,) = bind_tcp("127.0.0.1", 0)
        turns = Turns(3)  # the third does not take any
        servers = []
        for number in range(2):
            app, _, _ = make()
            servers.append(HttpServer(app, [listening.dup()], Bounds(Limits()), (turns, number)))
            servers[-1].start()
        opened = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(_GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            opened.append(writer)
        shares = [each.connections for each in servers]
        for each in servers:
            each.abort()
        listening.close()
        for writer in opened:
            writer.close()
        return shares

    assert asyncio.run(run()) == [10, 10]


def test_turns() -> None:
    turns = Turns(3)
    turns.has(0, 2)
    assert turns.is_mine(0), "the others take none"
    turns.has(1, 1)
    assert (turns.is_mine(0), turns.is_mine(1)) == (False, True)
    turns.has(0, 1)
    assert turns.is_mine(0)
    turns.has(0, 5)
    turns.leave(1)
    assert turns.is_mine(0)


def test_reload_says_what_became_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    app, server, _ = make()
    server.models.results = {"a": "reloaded", "b": "unchanged", "c": "not reloaded: /secret/path"}

    async def run() -> object:
        return await Lifecycle(server, HttpServer(app, [], Bounds(Limits())), None, 1.0).reload()

    with logged():
        assert asyncio.run(run()) == {"a": "reloaded", "b": "unchanged", "c": "failed"}
    assert "/secret/path" in capsys.readouterr().err, "the operator is told why"


def test_clients_may_not_reload_unless_told() -> None:
    app, _, _ = make()
    assert TestClient(app).post("/admin/reload").status_code == 403

    async def reload() -> dict[str, str]:
        return {"fake": "reloaded", "keys": "failed"}

    app, _, _ = make(reload=reload)
    answer = TestClient(app).post("/admin/reload")
    assert (answer.status_code, answer.json()["models"]["keys"]) == (500, "failed")
    assert TestClient(app).get("/admin/reload").status_code == 405


def test_health() -> None:
    app, server, _ = make()
    client = TestClient(app)
    alive, ready = ("/health", "/ping", "/livez"), ("/ready", "/readyz")
    assert {client.get(path).status_code for path in (*alive, *ready)} == {200}
    server.models.is_ready = (False, "warming up")
    for path in ready:
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (503, {"error": "warming up", "error_type": "Unhealthy"})
    assert {client.get(path).status_code for path in alive} == {200}
    server.models.is_ready, server.not_ready = (True, ""), "the server stops"
    assert client.get("/ready").json()["error"] == "the server stops"
    server.models.is_alive = (False, "the engine hangs")
    for path in alive:
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]) == (503, "the engine hangs")


def test_calls_between_processes() -> None:
    async def run() -> None:
        async def double(value: int) -> int:
            await asyncio.sleep(0.05 if value == 1 else 0)
            return 2 * value

        async def fail(_: object) -> None:
            raise ValueError("never mind")

        async def never(_: object) -> None:
            await asyncio.sleep(60)

        one, other = socket.socketpair()
        server = await Peer.open(one, {"double": double, "fail": fail, "never": never})
        client = await Peer.open(other, {})
        tasks = [asyncio.create_task(each.run()) for each in (server, client)]
        assert await asyncio.gather(*(client.call("double", each) for each in range(5))) == [0, 2, 4, 6, 8]
        assert await client.call("fail") is None
        assert await client.call("no such") is None
        with pytest.raises(asyncio.TimeoutError):
            await client.call("never", None, 0.05)
        waiting = asyncio.create_task(client.call("never"))
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        with pytest.raises(PeerLeft):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(PeerLeft):
            await client.call("double", 1)

    with logged():
        asyncio.run(run())


def test_addresses_that_cannot_be_had() -> None:
    (listening,) = bind_tcp("127.0.0.1", 0)
    with listening:
        listening.listen()
        with pytest.raises(InputError, match="Address already in use"):
            bind_tcp("127.0.0.1", listening.getsockname()[1])
    with pytest.raises(InputError, match=r"Cannot listen on no-such-host\.invalid"):
        bind_tcp("no-such-host.invalid", 0)
    with pytest.raises(InputError, match=r"Cannot listen on 203\.0\.113\.7"):
        bind_tcp("203.0.113.7", 0)


def test_a_file_in_a_sockets_place_is_left_alone(tmp_path) -> None:
    file = tmp_path / "notes"
    file.write_text("mine")
    with pytest.raises(InputError, match="no socket"):
        bind_unix(file)
    assert file.read_text() == "mine"
    with bind_unix(tmp_path / "socket") as bound:
        bound.listen()
        with pytest.raises(InputError, match="Another server answers"):
            bind_unix(tmp_path / "socket")


def test_keys_that_cannot_be_read_again_are_said(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys"
    file.write_text("one\n")
    file.chmod(0o600)
    keys = Keys(file)
    file.unlink()
    app, server, _ = make(keys=keys)

    async def run() -> object:
        return await Lifecycle(server, HttpServer(app, [], Bounds(Limits())), keys, 1.0).reload()

    with logged():
        assert asyncio.run(run()) == {"keys": "failed", "fake": "reloaded"}
    assert "cannot be read" in capsys.readouterr().err
    assert keys.admit(b"one")
