"""A fork server as the server holds it: started, given orders, ended."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path

from runtime.serve.decoding.orders import COMMAND, LENGTH, READY, Orders

__all__ = ["ForkServer"]

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from runtime.serve.decoding.forkserver import main; main(int(sys.argv[1]))"
)
# Of the environment nothing else is handed on: it may hold keys.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
# The fork server must have one thread.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# Until it is ready on a machine that is busy; until it takes an order, and ends when asked to.
_START_SECONDS, _ORDER_SECONDS, _END_SECONDS = 60.0, 5.0, 2.0


class ForkServer:
    """Started when made, which takes half a second. Any thread may give orders.

    Raises:
        OSError, EOFError: it could not be started.
    """

    def __init__(self, orders: Orders) -> None:
        """Start it, and wait until it is ready."""
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        # Its modules are this process's, from wherever these came.
        path = json.dumps([str(Path(entry).absolute()) for entry in sys.path])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE, str(theirs.fileno()), path],
                pass_fds=[theirs.fileno()],
                env={**environment, **_ONE_THREAD},
                cwd="/",
                start_new_session=True,  # what a terminal sends to the server is not its business
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders write there, and quote what they read
            )
        try:
            given = pickle.dumps(orders)
            self._control.settimeout(_START_SECONDS)
            self._control.sendall(LENGTH.pack(len(given)) + given)
            if self._control.recv(1) != READY:
                raise EOFError
            self._control.settimeout(_ORDER_SECONDS)
        except BaseException:
            self.end()
            raise

    @property
    def process(self) -> int:
        """Its number."""
        return self._process.pid

    def order(self, command: bytes, picture: int, theirs: socket.socket | None = None) -> bool:
        """Send an order; whether it was taken. One that takes none is ended.

        Args:
            command: see `orders`.
            picture: its number.
            theirs: the end of a socket that a child is to have.
        """
        descriptors = [] if theirs is None else [theirs.fileno()]
        try:
            with self._lock:
                socket.send_fds(self._control, [COMMAND.pack(command, picture)], descriptors)
        except OSError:
            self.kill()
            return False
        return True

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it, and leave alone the children it has."""
        self._process.kill()

    def wait(self) -> None:
        """Wait until it ends; its children do not end with it."""
        self._process.wait()
        self._control.close()

    def end(self) -> None:
        """End it and its children."""
        self._control.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
