"""Time whole processes, interleaved, with their peak memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["PROLOGUE", "ProcessSample", "Samples", "compare_processes", "run_process"]

# What every measured script ends with: report(vector) tells the parent that the first answer is there, and what it is.
PROLOGUE = """
import json, resource, sys
def peak_bytes():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
def report(vector):
    print(json.dumps({"answer": [float(value) for value in vector], "peak_bytes": peak_bytes()}), flush=True)
"""


class PeerError(RuntimeError):
    """A measured process failed; the message holds the end of what it said."""


@dataclass(frozen=True)
class ProcessSample:
    """One run: seconds from starting the process to its first answer, its peak resident memory, the answer."""

    seconds: float
    peak_bytes: int
    answer: tuple[float, ...]


@dataclass
class Samples:
    """All runs of one competitor."""

    name: str
    runs: list[ProcessSample] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Median seconds to the first answer."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def peak_bytes(self) -> float:
        """Median peak resident memory."""
        return statistics.median(run.peak_bytes for run in self.runs)


def run_process(script: str, arguments: Sequence[str]) -> ProcessSample:
    """Start Python with a script (after `PROLOGUE`) and wait for its report.

    Raises:
        PeerError: the process failed or reported nothing.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
        _, errors = process.communicate()
    if process.returncode != 0 or not line.startswith("{"):
        raise PeerError((errors or line).strip()[-2000:] or f"exit status {process.returncode}")
    reported = json.loads(line)
    return ProcessSample(seconds, reported["peak_bytes"], tuple(reported["answer"]))


def compare_processes(
    scripts: Mapping[str, tuple[str, Sequence[str]]], rounds: int, tolerance: float
) -> tuple[list[Samples], float]:
    """Run competitors in turn, A B A B …, after one uncounted round in which their answers are compared.

    Args:
        scripts: name → script and its arguments; the first is what the others must agree with.
        rounds: counted runs of each.
        tolerance: largest difference of any component of the answers.

    Returns:
        Samples in the order given, and the largest difference seen.

    Raises:
        PeerError: a process failed, or the answers differ: a wrong answer has no time.
    """
    warm = {name: run_process(*script) for name, script in scripts.items()}
    first = next(iter(warm.values())).answer
    for name, sample in warm.items():
        if len(sample.answer) != len(first):
            raise PeerError(f"'{name}' answers with {len(sample.answer)} numbers, expected {len(first)}")
    # numpy's max, unlike Python's, does not lose NaN.
    difference = float(np.max([np.abs(np.subtract(first, sample.answer)) for sample in warm.values()]))
    if not difference <= tolerance:
        raise PeerError(f"the answers differ by {difference:.3g}, at most {tolerance:g} is allowed; nothing was timed")
    samples = {name: Samples(name) for name in scripts}
    for _ in range(rounds):
        for name, script in scripts.items():
            samples[name].runs.append(run_process(*script))
    return list(samples.values()), difference
