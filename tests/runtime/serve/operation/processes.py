"""`python -m runtime serve` as a process of its own, and clients that keep their connections."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

TEXT = json.dumps({"inputs": "There is a small left pleural effusion."})
JSON = {"Content-Type": "application/json"}


class Served:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], line: str, log: Path) -> None:
        self.process = process
        self.line = line
        self._log = log
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        self.port = int(found[1]) if found else 0

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def get(
        self, path: str, method: str = "GET", headers: Any = None, body: str | bytes | None = None
    ) -> tuple[int, str]:
        connection = self.connect()
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        with contextlib.closing(connection):
            return answer.status, answer.read().decode()

    def embed(self, headers: Any = None) -> int:
        return self.get("/embed", "POST", {**JSON, **(headers or {})}, TEXT)[0]

    def metric(self, name: str) -> float:
        """The sum over labels."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[ {{]", line))

    def log(self) -> str:
        return self._log.read_text()

    def events(self) -> list[dict[str, Any]]:
        """Log lines of a server that writes JSON."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def status(self, seconds: float = 30) -> int:
        """Exit status."""
        return self.process.wait(seconds)


@contextlib.contextmanager
def serving(tmp_path: Path, *arguments: str, port: bool = True) -> Iterator[Served]:
    """Run it and wait until it is ready; without a cache, unless one is asked for: tests ask for the same text."""
    kept = [] if "--text-cache" in arguments else ["--text-cache", "0"]
    log = tmp_path / "log"
    command = [sys.executable, "-m", "runtime", "serve", *arguments, *(["--port", "0"] if port else [])]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, "--provider", "cpu", "--threads", "1", *kept],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Serving "), line + log.read_text()
        yield Served(process, line, log)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class Clients:
    """Threads that ask one thing after another over connections that they keep, until nobody listens any more."""

    def __init__(self, served: Served, count: int) -> None:
        self._served = served
        self.answers: list[int] = []
        self.broken: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> Clients:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for each in self._threads:
            each.join(60)

    def until(self, answers: int) -> None:
        """Wait for so many answers."""
        end = time.monotonic() + 30
        while len(self.answers) < answers:
            assert time.monotonic() < end, (self.answers, self.broken)
            time.sleep(0.01)

    def _ask(self) -> None:
        connection = self._served.connect()
        while not self._end.is_set():
            asked = False
            try:
                if connection.sock is None:
                    connection.connect()
                asked = True
                connection.request("POST", "/embed", TEXT, JSON)
                answer = connection.getresponse()
                answer.read()
                self.answers.append(answer.status)
            except OSError as error:
                if asked:
                    self.broken.append(repr(error))
                    connection.close()
                    continue
                return  # nobody listens
            except http.client.HTTPException as error:
                self.broken.append(repr(error))
                connection.close()
