"""A process that answers in lines of JSON, and may crash or hang without taking this one with it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from bench.errors import PeerError

__all__ = ["Child"]

_SAID = 2000
_END_SECONDS = 10.0


class Child:
    """Starts with the constructor; `stop` ends it however it is."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start.

        Args:
            command: program and arguments.
            environment: variables beside those of this process.
        """
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (closed by stop)
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **(environment or {})},
            # Ctrl-C is for this process, which then says what has become of the others.
            start_new_session=True,
        )
        self._lines: queue.Queue[tuple[float, str]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):  # closed by stop
            for line in self._process.stdout:
                self._lines.put((time.perf_counter(), line))
        self._lines.put((time.perf_counter(), ""))

    @property
    def ended(self) -> bool:
        """Whether it is no longer there."""
        return self._process.poll() is not None

    def send(self, told: Mapping[str, Any]) -> None:
        """A line for it to read; if it died since, `receive` says of what."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(told) + "\n")
            self._process.stdin.flush()

    def receive(self, seconds: float) -> tuple[float, dict[str, Any]]:
        """Its next line, and when it came (`time.perf_counter`).

        Raises:
            PeerError: it ended, said something else or nothing within these seconds; it is ended then.
        """
        try:
            when, line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.stop()
            raise PeerError(
                f"no answer within {seconds:.0f} s; it was ended{self._last_words('. It said: ')}"
            ) from None
        if not line.startswith("{"):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
            self.stop()
            said = self._last_words("") or line.strip()
            raise PeerError(said or f"it ended with exit status {self._process.returncode} and said nothing")
        return when, dict(json.loads(line))

    def wait(self, seconds: float) -> int:
        """Exit status, once it has ended by itself.

        Raises:
            PeerError: it did not within these seconds; it is ended then.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise PeerError(f"it did not end within {seconds:.0f} s") from None

    def _last_words(self, before: str) -> str:
        self._errors.seek(0)
        said = self._errors.read().strip()[-_SAID:]
        return before + said if said else ""

    def stop(self) -> None:
        """End it; a second time nothing happens."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError, ValueError):
                if pipe:
                    pipe.close()
