"""Time whole processes from their start, with their peak memory."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import PeerError
from bench.processes.child import Child

__all__ = ["PROLOGUE", "ProcessSample", "peak_bytes", "run_process"]


_END_SECONDS = 30.0


@dataclass(frozen=True)
class ProcessSample:
    """One run: seconds from starting the process to its first answer, its peak resident memory, the answer."""

    seconds: float
    peak_bytes: int
    answer: tuple[float, ...]


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123 (also a script's, which imports nothing)
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


# What every measured script starts with: report(vector) tells that the first answer is there, and what it is.
PROLOGUE = (
    "import json, sys\n"
    + inspect.getsource(peak_bytes)
    + """
def report(vector):
    print(json.dumps({"answer": [float(value) for value in vector], "peak_bytes": peak_bytes()}), flush=True)
"""
)


def run_process(
    script: str, arguments: Sequence[str], *, python: str = sys.executable, seconds: float = 300.0
) -> ProcessSample:
    """Start Python with a script (after `PROLOGUE`) and wait for its report.

    Args:
        script: Python code that ends with report(vector).
        arguments: its command line.
        python: the interpreter.
        seconds: after which it is ended.

    Raises:
        PeerError: the process failed, reported nothing or took too long.
    """
    child = Child([python, "-c", PROLOGUE + script, *arguments])
    try:
        when, reported = child.receive(seconds)
        status = child.wait(_END_SECONDS)
    finally:
        child.stop()
    if status != 0:
        raise PeerError(f"it answered, but then ended with exit status {status}")
    return ProcessSample(when - child.started, reported["peak_bytes"], tuple(reported["answer"]))
