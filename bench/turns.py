"""Let contestants run in turn, each in a process of its own, and compare what they answer before they are timed."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bench.measure import PeerError

__all__ = ["Contestant", "Times", "lowest_cosine", "take_turns"]

# PyTorch, OpenMP and OpenVINO alike; each peer also sets its own.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Contestant:
    """Something to time.

    Attributes:
        name: for the report.
        spec: for `bench.worker`.
        check: from its answer and the first contestant's to a reason why it is wrong, or None; None compares nothing.
        passes: of the workload per round; each counts alone.
    """

    name: str
    spec: Mapping[str, Any]
    check: Callable[[NDArray[Any], NDArray[Any]], str | None] | None = None
    passes: int = 1


@dataclass
class Times:
    """Seconds of every counted pass of one contestant, and its answer."""

    name: str
    answer: NDArray[Any]
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median seconds of a pass."""
        return statistics.median(self.seconds)


def lowest_cosine(bound: float) -> Callable[[NDArray[Any], NDArray[Any]], str | None]:
    """A check that every embedding has at least this cosine with the first contestant's."""

    def check(found: NDArray[Any], expected: NDArray[Any]) -> str | None:
        if found.shape != expected.shape:
            return f"its answer has shape {found.shape}, expected {expected.shape}"
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        lowest = float(np.min((found * expected).sum(axis=1) / norms))
        # NaN fails as well.
        return (
            None
            if lowest >= bound
            else f"an embedding has cosine {lowest:.5f} with the first, at least {bound} is expected"
        )

    return check


def take_turns(
    contestants: Sequence[Contestant],
    rounds: int,
    threads: int,
    progress: Callable[[str], None] = lambda message: None,
) -> list[Times]:
    """Time contestants in turn, A B C A B C …, after one uncounted pass whose answers are compared.

    Args:
        contestants: the first is what others are compared with.
        rounds: counted.
        threads: that each may use.
        progress: called with what is going on.

    Returns:
        Times in the order given.

    Raises:
        PeerError: a process failed, or an answer is wrong: what is wrong has no time.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cxr-bench-")))
        processes: list[_Process] = []
        times: list[Times] = []
        for number, contestant in enumerate(contestants):
            progress(f"preparing {contestant.name}")
            answer = folder / f"{number}.npy"
            spec = {**contestant.spec, "answer": str(answer), "threads": threads}
            file = folder / f"{number}.json"
            file.write_text(json.dumps(spec), encoding="utf-8")
            errors = stack.enter_context((folder / f"{number}.log").open("w+", encoding="utf-8"))
            processes.append(_Process(contestant.name, file, threads, errors))
            stack.callback(processes[-1].stop)
            processes[-1].receive()
            times.append(Times(contestant.name, np.load(answer)))
            wrong = contestant.check and contestant.check(times[-1].answer, times[0].answer)
            if wrong:
                raise PeerError(f"'{contestant.name}' is not timed: {wrong}")
        for number in range(rounds):
            for contestant, process, each in zip(contestants, processes, times, strict=True):
                progress(f"round {number + 1} of {rounds}: {contestant.name}")
                each.seconds += [process.run() for _ in range(contestant.passes)]
    return times


class _Process:
    """A contestant's worker."""

    def __init__(self, name: str, spec: Path, threads: int, errors: IO[str]) -> None:
        self._name = name
        self._errors = errors
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", str(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))},
        )

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("{"):
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip()[-2000:] or f"exit status {self._process.returncode}"
            raise PeerError(f"'{self._name}' failed: {said}")
        return dict(json.loads(line))

    def run(self) -> float:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died since; receive says of what
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return float(self.receive()["seconds"])

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()
