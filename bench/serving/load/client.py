"""The measuring process's end of the load client."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.processes.child import Child
from bench.serving.load.outcome import Outcome
from bench.serving.load.plan import Plan, Request, Stream, http_request

__all__ = ["Client", "Running"]

_START_SECONDS = 60.0
# A run takes as long as it is told, at most.
_LONGEST = 24 * 3600.0


class Running:
    """A load that runs; `wait` gives its outcome."""

    def __init__(self, child: Child, outcome: Path) -> None:
        self._child = child
        self._outcome = outcome

    def wait(self) -> Outcome:
        """Wait for its end.

        Raises:
            PeerError: the client's process ended.
        """
        self._child.receive(_LONGEST)
        return Outcome.load(self._outcome)


class Client:
    """A process that sends requests to one server, one load at a time."""

    def __init__(self, host: str, port: int, requests: Sequence[Request]) -> None:
        """Start the process.

        Args:
            host: of the server.
            port: of it.
            requests: all that may be sent; streams name them by number.
        """
        self._address = (host, port)
        self._folder = tempfile.TemporaryDirectory(prefix="cxr-load-")
        written = [http_request(request, host, port) for request in requests]
        self._lengths = [len(each) for each in written]
        self._file = Path(self._folder.name) / "requests"
        self._file.write_bytes(b"".join(written))
        self._child = Child([sys.executable, "-m", "bench.serving.load.worker"])
        self._child.receive(_START_SECONDS)

    def start(self, streams: Sequence[Stream], *, patience: float = 300.0, bodies: bool = True) -> Running:
        """Start a load and return at once."""
        outcome = Path(self._folder.name) / "outcome.npz"
        host, port = self._address
        plan = Plan(host, port, str(self._file), self._lengths, streams, str(outcome), patience, bodies)
        self._child.send(asdict(plan))
        return Running(self._child, outcome)

    def run(self, *streams: Stream, patience: float = 300.0, bodies: bool = True) -> Outcome:
        """Run a load to its end."""
        return self.start(streams, patience=patience, bodies=bodies).wait()

    def close(self) -> None:
        """End the process."""
        self._child.stop()
        self._folder.cleanup()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
