"""What became of the requests of a run: times, statuses, answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.serving.load.connection import NEVER, NO_CONNECTION, UNANSWERED

__all__ = ["LEFT", "NEVER", "Outcome", "Record"]

# What stands for a status beside those of `connection`: the client left on purpose.
LEFT = -2
_NAMES = {NO_CONNECTION: "no connection", UNANSWERED: "unanswered", LEFT: "left", NEVER: "never"}


@dataclass
class Record:
    """One request as the worker notes it; times are `time.perf_counter`, which all processes of a machine share."""

    stream: int
    request: int
    due: float
    begun: float
    ended: float
    status: int
    retry_after: float
    body: bytes


@dataclass(frozen=True)
class Outcome:
    """All requests of a run in the order in which they ended.

    Attributes:
        stream: int32 (N,): number of the stream of each.
        request: int32 (N,): which request it was.
        due: float64 (N,): when it was to be sent, seconds of `time.perf_counter`; in a closed loop when it was sent.
        begun: float64 (N,): when it was written to a connection.
        ended: float64 (N,): when its answer was there.
        status: int32 (N,): of HTTP, or `NO_CONNECTION`, `UNANSWERED`, `LEFT`, `NEVER`.
        retry_after: float64 (N,): seconds, -1 where it was not said.
        bodies: of the answers.
        cpu_seconds: that the client's process computed.
    """

    stream: NDArray[np.int32]
    request: NDArray[np.int32]
    due: NDArray[np.float64]
    begun: NDArray[np.float64]
    ended: NDArray[np.float64]
    status: NDArray[np.int32]
    retry_after: NDArray[np.float64]
    bodies: list[bytes]
    cpu_seconds: float = 0.0

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Which were answered with 200."""
        return np.equal(self.status, 200)

    @property
    def latency(self) -> NDArray[np.float64]:
        """Seconds from when each was due until its answer was there: a late client's delay counts."""
        return self.ended - self.due

    @property
    def seconds(self) -> float:
        """From the first request's time to the last answer."""
        return float(self.ended.max() - self.due.min()) if len(self.due) else 0.0

    def of(self, chosen: NDArray[np.bool_]) -> Outcome:
        """Those that are chosen, bool (N,)."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        bodies = [self.bodies[place] for place in np.flatnonzero(chosen)]
        return Outcome(**columns, bodies=bodies, cpu_seconds=self.cpu_seconds)

    def counts(self) -> dict[str, int]:
        """How many there are of each status, by its number or a word."""
        values, numbers = np.unique(self.status, return_counts=True)
        return {
            _NAMES.get(value, str(value)): number
            for value, number in zip(values.tolist(), numbers.tolist(), strict=True)
        }

    def quantile(self, share: float, status: int = 200) -> float:
        """Latency that this share of the requests with a status does not exceed: an observed one, the next above.

        NaN where there is none.
        """
        chosen = self.latency[self.status == status]
        return float(np.quantile(chosen, share, method="higher")) if len(chosen) else float("nan")

    def within(self, start: float, end: float) -> int:
        """How many were answered with 200 from one time to another (`time.perf_counter`)."""
        return int(np.sum(self.ok & (self.ended >= start) & (self.ended < end)))

    def save(self, file: Path) -> None:
        """Write it for `load`."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in _COLUMNS}
        lengths = np.array([len(body) for body in self.bodies], np.int64)
        blob = np.frombuffer(b"".join(self.bodies), np.uint8)
        with file.open("wb") as stream:
            np.savez(stream, **columns, lengths=lengths, blob=blob, cpu_seconds=self.cpu_seconds)

    @staticmethod
    def load(file: Path) -> Outcome:
        """Read what `save` wrote."""
        with np.load(file, allow_pickle=False) as found:
            blob, ends = found["blob"].tobytes(), np.cumsum(found["lengths"]).tolist()
            columns = {name: found[name] for name in _COLUMNS}
            cpu_seconds = float(found["cpu_seconds"])
        starts = [0, *ends][: len(ends)]
        bodies = [blob[start:end] for start, end in zip(starts, ends, strict=True)]
        return Outcome(**columns, bodies=bodies, cpu_seconds=cpu_seconds)

    @staticmethod
    def made_of(records: list[Record], cpu_seconds: float = 0.0) -> Outcome:
        """The worker's notes as arrays."""
        columns: dict[str, Any] = {
            name: np.array([getattr(record, name) for record in records], kind) for name, kind in _COLUMNS.items()
        }
        return Outcome(**columns, bodies=[record.body for record in records], cpu_seconds=cpu_seconds)


_COLUMNS: dict[str, Any] = {
    "stream": np.int32,
    "request": np.int32,
    "due": np.float64,
    "begun": np.float64,
    "ended": np.float64,
    "status": np.int32,
    "retry_after": np.float64,
}
