"""Accepts connections, looks after their deadlines, and ends without losing a request.

uvicorn's parser and protocol, but not its `Server`: that closes its listening socket with connections waiting in it,
closes idle connections into which requests may be on their way, and knows no turns between processes.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from runtime.serve.operation.connections import Bounds, Connection
from runtime.serve.operation.sockets import BACKLOG, CONNECTING_SECONDS, let_none_connect
from runtime.serve.operation.turns import Turns

__all__ = ["HttpServer"]

_TICK_SECONDS = 0.1
_TICKS_A_DATE = 10
# Idle connections stay open for so long after the server began to stop: a request may be on its way.
_IDLE_SECONDS = 1.0
_POLL_SECONDS = 0.02
# Where no more files can be opened.
_PAUSE_SECONDS = 0.5
# Longer than another process takes to wake up; what a connection costs more where that one is busy.
_TURN_SECONDS = 0.003


class HttpServer:
    """An ASGI application behind sockets. Used on the event loop alone."""

    def __init__(
        self,
        app: Any,
        sockets: Sequence[socket.socket],
        bounds: Bounds,
        turns: tuple[Turns, int] | None = None,
    ) -> None:
        """Begin, without listening.

        Args:
            app: the application.
            sockets: bound and not blocking.
            bounds: of connections.
            turns: of processes that share the sockets, and this one's number.
        """
        self._config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(bounds.keep_alive) + 1,  # the deadlines here come first
        )
        self._config.load()
        self._sockets = list(sockets)
        self._bounds = bounds
        self._turns = turns
        self._state = ServerState()
        self._opening: dict[asyncio.Task[Any], Connection] = {}
        self._ticking: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """That are open."""
        there = self._state.connections
        return len(there) + sum(each not in there for each in self._opening.values())

    @property
    def requests(self) -> int:
        """That are being answered."""
        return len(self._state.tasks)

    def start(self) -> None:
        """Listen and answer."""
        self._set_date()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        for each in self._sockets:
            each.listen(BACKLOG)
            self._watch(each)
        self._tell_turns()

    async def stop(self, seconds: float) -> bool:
        """Accept no connection any more, answer what came, and close every connection.

        Requests on open connections are still answered, the last of each with `Connection: close`.

        Returns:
            Whether all were answered within so many seconds. Where not, the rest stays open: see `abort`.
        """
        self._bounds.closing = True
        began = time.monotonic()
        if self._turns is None:  # else the parent has, for all who share the sockets
            for each in self._sockets:
                let_none_connect(each)
            await asyncio.sleep(CONNECTING_SECONDS)
        self._stop_listening()
        for each in self._state.connections:
            each.finish()
        while self.connections or self._state.tasks:
            now = time.monotonic()
            for each in list(self._state.connections):
                if each.idle and now - max(began, each.idle_since) >= _IDLE_SECONDS:
                    each.transport.close()
            if now - began >= seconds:
                return not self._state.tasks
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def abort(self) -> None:
        """Close everything at once."""
        self._stop_listening()
        for task in self._state.tasks:
            task.cancel()
        for each in list(self._state.connections):
            each.transport.abort()
        if self._ticking is not None:
            self._ticking.cancel()

    def _watch(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        """Take a connection, or leave it for a moment to a process that has fewer."""
        if self._turns is not None and not self._turns[0].is_mine(self._turns[1]):
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening)
            loop.call_later(_TURN_SECONDS, self._take_at_last, listening)
        else:
            self._take(listening)

    def _take_at_last(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self._watch(listening)
            self._take(listening)

    def _tell_turns(self) -> None:
        if self._turns is not None and self._sockets:
            self._turns[0].has(self._turns[1], self.connections)

    def _stop_listening(self) -> None:
        """Take what has connected, then close."""
        loop = asyncio.get_running_loop()
        if self._turns is not None:
            self._turns[0].leave(self._turns[1])
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            loop.remove_reader(each)
            while self._take(each):
                pass
            each.close()

    def _take(self, listening: socket.socket) -> bool:
        """Take one connection; whether there was one."""
        loop = asyncio.get_running_loop()
        try:
            opened, _ = listening.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionError:  # the client left meanwhile
            return True
        except OSError:  # no more files can be opened
            loop.remove_reader(listening)
            loop.call_later(_PAUSE_SECONDS, self._watch, listening)
            return False
        if self.connections >= self._bounds.limits.connections:
            self._bounds.closed("too_many")
            opened.close()
            return True
        opened.setblocking(False)
        connection = Connection(self._bounds, self._config, self._state)
        task = loop.create_task(self._open(opened, connection))
        self._opening[task] = connection
        task.add_done_callback(self._opening.pop)
        self._tell_turns()
        return True

    @staticmethod
    async def _open(opened: socket.socket, connection: Connection) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, opened)
        except OSError:
            opened.close()

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            ticks += 1
            if ticks % _TICKS_A_DATE == 0:
                self._set_date()
            now = time.monotonic()
            for each in list(self._state.connections):
                each.tick(now)
            self._tell_turns()

    def _set_date(self) -> None:
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
