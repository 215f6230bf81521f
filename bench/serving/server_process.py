"""A server as a process of its own: started on a free port of loopback, asked until it is ready, watched, ended."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.errors import PeerError

__all__ = ["HOST", "PROGRAM", "ServerProcess", "engine_server", "free_port"]

HOST = "127.0.0.1"
# What Python runs as this project's server.
PROGRAM = ("-m", "runtime")
_START_SECONDS = 180.0
_END_SECONDS = 30.0
_SAID = 2000


class ServerProcess:
    """Starts with the constructor and is ready when that returns; `stop` ends it however it is."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        ready: str,
        *,
        environment: Mapping[str, str] | None = None,
        seconds: float = _START_SECONDS,
        folder: Path | None = None,
    ) -> None:
        """Start.

        Args:
            command: program and arguments.
            port: that it will listen on, of loopback.
            ready: path that answers 200 when it is ready.
            environment: variables beside those of this process.
            seconds: until it has to be ready.
            folder: that it runs in.

        Raises:
            PeerError: it ended, or was not ready in time; with its last words.
        """
        self.port = port
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (closed by stop)
        started = time.perf_counter()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                cwd=folder,
            )
        except OSError as error:
            self._said.close()
            raise PeerError(f"{command[0]} does not start: {error.strerror}") from None
        self._wait_until_ready(ready, started + seconds)
        self.start_seconds = time.perf_counter() - started

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is no longer there."""
        return self._process.poll() is not None

    def _wait_until_ready(self, path: str, until: float) -> None:
        while time.perf_counter() < until:
            if self.ended:
                said = self.last_words()
                self.stop()
                raise PeerError(said or f"the server ended with exit status {self._process.returncode}")
            with suppress(OSError, http.client.HTTPException):
                if self.get(path)[0] == 200:
                    return
            time.sleep(0.05)
        said = self.last_words()
        self.stop()
        raise PeerError(f"the server was not ready in time. It said: {said}")

    def get(self, path: str, seconds: float = 5.0) -> tuple[int, bytes]:
        """Status and body of a GET.

        Raises:
            OSError: it does not answer.
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=seconds)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def memory(self) -> int:
        """Resident bytes of the process and its children, pages that they share counted once."""
        return sum(_resident(pid) for pid in _family(self._process.pid))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int | None:
        """Exit status once it ended by itself; None where it did not within these seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def last_words(self) -> str:
        """The end of what it printed."""
        self._said.seek(0)
        return self._said.read().strip()[-_SAID:]

    def stop(self) -> None:
        """Ask it to end, then end it with its children; a second time nothing happens."""
        if not self.ended:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._said.close()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def engine_server(
    bundles: Sequence[str],
    options: Sequence[str] = (),
    *,
    program: Sequence[str] = PROGRAM,
    environment: Mapping[str, str] | None = None,
) -> ServerProcess:
    """`python -m runtime serve` on a free port.

    Args:
        bundles: folders, or NAME=FOLDER.
        options: of the command.
        program: what Python runs in the place of `-m runtime`.
        environment: variables beside those of this process.

    Raises:
        PeerError: it does not start.
    """
    port = free_port()
    command = [sys.executable, *program, "serve", *bundles, "--port", str(port), *options]
    return ServerProcess(command, port, "/ready", environment=environment)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                # The command's name in parentheses may hold anything.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(each := waiting.pop())
        waiting += parents.get(each, [])
    return found


def _resident(pid: int) -> int:
    for file, key in ((f"/proc/{pid}/smaps_rollup", "Pss:"), (f"/proc/{pid}/status", "VmRSS:")):
        with suppress(OSError):
            for line in Path(file).read_text().splitlines():
                if line.startswith(key):
                    return int(line.split()[1]) * 1024
    return 0
