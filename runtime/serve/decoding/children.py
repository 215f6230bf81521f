"""Pictures decoded in child processes, one each, as the server sees them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
import time

from runtime.errors import InputError
from runtime.serve.decoding.answers import BEGUN, Answer, Expected, read_answer
from runtime.serve.decoding.fork_server_handle import ForkServer
from runtime.serve.decoding.forkserver import DECODE, KILL, REQUEST, Orders

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


class Children:
    """A fork server, and another one when it ends. Any thread may call.

    Attributes:
        crashes: pictures that ended their child, or were ended with it, so far.
    """

    def __init__(self, orders: Orders) -> None:
        """Start nothing yet."""
        self.crashes = 0
        self._orders = orders
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._server: ForkServer | None = None
        self._closing = threading.Event()
        self._failing = False
        self._watcher = threading.Thread(target=self._watch, name="cxr-engine-decoding", daemon=True)

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
        for _ in range(_TRIES):
            server, number = self._current(), next(self._numbers)
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    ordered = server.order(DECODE, number, theirs)
                if ordered and self._begins(ours, server):
                    return self._answer(ours, server, number, kind, image, expected)
            time.sleep(_BEFORE_RETRY)
        raise UnavailableError

    def _current(self) -> ForkServer:
        with self._changed:
            self._changed.wait_for(lambda: self._server is not None or self._closing.is_set(), _REPLACED_SECONDS)
            if self._server is None or self._closing.is_set():
                raise UnavailableError
            return self._server

    def _begins(self, ours: socket.socket, server: ForkServer) -> bool:
        """Whether a child took the picture's socket: not where its fork server ended first, or could not fork."""
        ours.settimeout(_BEGIN_SECONDS)
        try:
            return ours.recv(1) == BEGUN
        except TimeoutError:
            server.kill()  # it was stopped
        except OSError:
            pass
        return False

    def _answer(
        self, ours: socket.socket, server: ForkServer, number: int, kind: bytes, image: bytes, expected: Expected
    ) -> Answer:
        begun = time.monotonic()
        end = begun + self._orders.seconds
        try:
            _send(ours, REQUEST.pack(kind, len(image)), end)
            _send(ours, image, end)
            return read_answer(lambda count: _receive(ours, count, end), expected)
        except (OSError, EOFError, ValueError, TypeError) as error:
            server.order(KILL, number)
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
