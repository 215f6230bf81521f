"""Pictures decoded in child processes, one each, as the server sees them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
import time
from collections import deque
from typing import NamedTuple

from runtime.errors import InputError
from runtime.serve.decoding.answers import BEGUN, Answer, Expected, read_answer
from runtime.serve.decoding.fork_server_handle import ForkServer
from runtime.serve.decoding.orders import DECODE, KILL, REQUEST, Orders

__all__ = ["CRASHED", "TOOK_TOO_LONG", "Children", "UnavailableError"]

CRASHED = "cannot be decoded: its decoder crashed"
TOOK_TOO_LONG = "cannot be decoded: it took longer than {seconds:g} seconds"

_LOG = logging.getLogger("runtime")
# Until a fork server is there, and until a child of it has begun.
_REPLACED_SECONDS, _BEGIN_SECONDS = 20.0, 5.0
# Between starts that fail; until a fork is tried again.
_PAUSE, _BEFORE_RETRY = 0.5, 0.1
# Fork servers that may end before a picture's child has begun.
_TRIES = 4
_CHUNK = 1 << 20


class UnavailableError(Exception):
    """No child process can be had now."""


class _Child(NamedTuple):
    """A child that waits for its picture, or is about to.

    Attributes:
        connection: to it.
        server: that was told to fork it.
        number: its picture's.
        ahead: it was forked before there was a picture.
    """

    connection: socket.socket
    server: ForkServer
    number: int
    ahead: bool


class Children:
    """A fork server, and another one when it ends. Any thread may call.

    Attributes:
        crashes: pictures that ended their child, or were ended with it, so far.
    """

    def __init__(self, orders: Orders, ahead: int) -> None:
        """Start nothing yet.

        Args:
            orders: what children do.
            ahead: of them that wait for a picture.
        """
        self.crashes = 0
        self._ahead = ahead
        self._waiting: deque[_Child] = deque()
        self._orders = orders
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._server: ForkServer | None = None
        self._closing = threading.Event()
        self._failing = False
        self._watcher = threading.Thread(target=self._watch, name="cxr-decoding", daemon=True)

    def start(self) -> None:
        """Start the fork server, which takes half a second.

        Raises:
            InputError: it cannot be started here.
        """
        try:
            self._server = ForkServer(self._orders)
        except (OSError, EOFError) as error:
            raise InputError(
                f"Processes that decode images cannot be started here ({type(error).__name__}). With 0 of them "
                "images are decoded on threads of this one, which a broken image can then end."
            ) from error
        self._watcher.start()
        self._fork_ahead()

    def close(self) -> None:
        """End the fork server and its children."""
        with self._changed:
            self._closing.set()
            server = self._server
            self._changed.notify_all()
        if server is not None:
            server.end()
        if self._watcher.is_alive():
            self._watcher.join()
        while self._waiting:
            self._waiting.popleft().connection.close()

    @property
    def alive(self) -> bool:
        """Whether there is a fork server, or another one is about to be."""
        return not self._failing and not self._closing.is_set()

    @property
    def process(self) -> int | None:
        """The number of the fork server, whose children decode."""
        server = self._server
        return None if server is None else server.process

    def run(self, kind: bytes, image: bytes, expected: Expected) -> Answer:
        """Decode a picture in a child of its own; waits for it.

        Args:
            kind: what is asked for.
            image: the file.
            expected: what can be answered.

        Raises:
            UnavailableError: no child can be had.
        """
        for _ in range(self._ahead + _TRIES):
            child = self._next()
            if child is not None:
                with child.connection:
                    if self._begins(child, REQUEST.pack(kind, len(image))):
                        try:
                            return self._answer(child, image, expected)
                        finally:
                            self._fork_ahead()
                if child.ahead:
                    continue
            time.sleep(_BEFORE_RETRY)
        raise UnavailableError

    def _next(self) -> _Child | None:
        """A child that was forked ahead, or else another one; None where its fork server has just ended."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return self._forked(self._current(), False)

    def _forked(self, server: ForkServer, ahead: bool) -> _Child | None:
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        with theirs:
            if server.order(DECODE, number, theirs):
                return _Child(ours, server, number, ahead)
        ours.close()
        return None

    def _fork_ahead(self) -> None:
        """Have children forked that wait for pictures, where there is a fork server."""
        while len(self._waiting) < self._ahead and not self._closing.is_set():
            server = self._server
            child = None if server is None else self._forked(server, True)
            if child is None:
                return
            self._waiting.append(child)

    def _current(self) -> ForkServer:
        with self._changed:
            self._changed.wait_for(lambda: self._server is not None or self._closing.is_set(), _REPLACED_SECONDS)
            if self._server is None or self._closing.is_set():
                raise UnavailableError
            return self._server

    def _begins(self, child: _Child, request: bytes) -> bool:
        """Whether a child took the request: not where it was killed, or its fork server ended or could not fork."""
        child.connection.settimeout(_BEGIN_SECONDS)
        try:
            child.connection.sendall(request)
            return child.connection.recv(1) == BEGUN
        except TimeoutError:  # it was stopped, or its fork server was
            if child.ahead:
                child.server.order(KILL, child.number)
            else:
                child.server.kill()
        except OSError:
            pass
        return False

    def _answer(self, child: _Child, image: bytes, expected: Expected) -> Answer:
        begun = time.monotonic()
        end = begun + self._orders.seconds
        try:
            _send(child.connection, image, end)
            return read_answer(lambda count: _receive(child.connection, count, end), expected)
        except (OSError, EOFError, ValueError, TypeError) as error:
            child.server.order(KILL, child.number)
            self.crashes += 1
            if time.monotonic() - begun >= self._orders.seconds:
                reason = TOOK_TOO_LONG.format(seconds=self._orders.seconds)
            else:
                reason = CRASHED
            _LOG.warning("An image is refused: it %s (%s)", reason, type(error).__name__)
            return Answer(reason=reason)

    def _watch(self) -> None:
        """Start another fork server when one ends."""
        server = self._server
        while server is not None:
            server.wait()
            with self._changed:
                self._server = None
            if not self._closing.is_set():
                _LOG.warning("The process from which those that decode images are forked ended; another is started")
            server = self._started()
            with self._changed:
                self._server = server
                self._changed.notify_all()
            if server is not None and self._closing.is_set():
                server.end()

    def _started(self) -> ForkServer | None:
        """Another fork server, however often it takes; None where none is wanted any more."""
        while not self._closing.is_set():
            with contextlib.suppress(OSError, EOFError):
                server = ForkServer(self._orders)
                self._failing = False
                return server
            self._failing = True
            self._closing.wait(_PAUSE)
        return None


def _send(ours: socket.socket, content: bytes, end: float) -> None:
    view = memoryview(content)
    while view:
        ours.settimeout(max(end - time.monotonic(), 1e-3))
        view = view[ours.send(view[:_CHUNK]) :]


def _receive(ours: socket.socket, count: int, end: float) -> bytearray:
    """Exactly so many bytes.

    Raises:
        EOFError: the child ended.
        OSError: so it did, or took too long.
    """
    content = bytearray(count)
    view = memoryview(content)
    while view:
        ours.settimeout(max(end - time.monotonic(), 1e-3))
        got = ours.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return content
