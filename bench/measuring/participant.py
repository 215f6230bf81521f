"""A contestant with its process, and what becomes of it when something is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from bench.measuring.entry import Entry
from bench.peers.rates import GPU_RATES
from bench.processes import Child
from bench.record import CPU, FAILED, GPU, MEASURED, OUT_OF_TIME, SKIPPED, WRONG, Contestant

__all__ = ["Participant", "product"]

# Of a contestant that opens, after which it is left alone: each may be a long wait.
_MOST_FAILURES = 2


@dataclass
class Participant:
    """A contestant and its process.

    Attributes:
        entry: the contestant.
        status: as of its row in the case that is measured; fault is the reason.
        child: its process, once it is needed; opened when it has said that it is ready.
        seconds: of a pass of the case.
        answer: to the case.
        failures: how often it crashed or hung.
    """

    entry: Entry
    status: str = MEASURED
    fault: str = ""
    child: Child | None = None
    opened: bool = False
    seconds: float = 0.0
    answer: NDArray[Any] | None = None
    failures: int = 0

    def fail(self, reason: str, status: str = FAILED) -> None:
        """It takes no further part in this case.

        Args:
            reason: for its row.
            status: FAILED, SKIPPED or WRONG.
        """
        self.status, self.fault = status, reason
        self.failures += status == FAILED

    def end_case(self) -> None:
        """What was wrong, or left out for time, in this case need not be in the next; what crashed or hung once is
        started again.
        """
        if self.status == WRONG or (self.status == SKIPPED and self.fault == OUT_OF_TIME):
            self.status, self.fault = MEASURED, ""
        elif self.status == FAILED and self.opened and self.failures < _MOST_FAILURES:
            self.stop()
            self.status, self.fault = MEASURED, ""

    def essential(self, baseline: str) -> bool:
        """Whether a case says nothing without it: what others are compared with, this engine, and the products."""
        entry = self.entry
        ours = entry.opener in ("engine", "every-token") and not entry.seldom
        return entry.name == baseline or ours or entry.opener == "rate"

    def stop(self) -> None:
        """End the process, if there is one."""
        if self.child is not None:
            self.child.stop()
        self.child, self.opened = None, False


def product(name: str) -> Entry:
    """The matrix product that says what the machine can do, as a contestant.

    Args:
        name: see `bench.record.report.Contestant.rate`.
    """
    on_gpu = name in GPU_RATES
    return Entry(
        Contestant(f"rate-{name}", f"{name} matrix product", "rate", precision=name, device=GPU if on_gpu else CPU),
        "rate",
        ("rate",),
        ("torch" if on_gpu else "openvino",),
        told={"system": "rate"},
    )
