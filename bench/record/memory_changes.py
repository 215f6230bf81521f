"""Memory that changed between two reports."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.record.report import Row

__all__ = ["MemoryChange", "memory_changes"]

# Between two runs of the same code a single process's peak was seen to differ by 13 %.
_NOISE_OF_ONE = 0.2


@dataclass(frozen=True)
class MemoryChange:
    """Resident memory, at its peak or at the end of a long run, that changed by more than the threshold.

    Attributes:
        case: its name.
        contestant: its name.
        old: bytes, the median.
        new: bytes, the median.
        regression: more, and one that counts.
    """

    case: str
    contestant: str
    old: float
    new: float
    regression: bool


def memory_changes(rows: Sequence[tuple[str, Row, Row]], threshold: float, counts: set[str]) -> list[MemoryChange]:
    """Every row whose memory, at its peak or at the end of a long run, changed by more than the threshold.

    Where several processes were looked at, every one of the new must lie beyond every one of the old. The peak of a
    single process says nothing of noise, such as what happened to be open at once: its growth is a regression where
    the contestant's cases together bear it out, or where it is larger than such noise was seen to be.

    Args:
        rows: name of the case, new row, old row.
        threshold: as a share.
        counts: contestants whose growth is a regression.
    """
    found = []
    for case, row, old_row in rows:
        peaks, resident = (row.peak_bytes, old_row.peak_bytes), (row.resident_bytes[-1:], old_row.resident_bytes[-1:])
        for new, old in (peaks, resident):
            if not (new and old):
                continue
            was, now = statistics.median(old), statistics.median(new)
            if now > was * (1 + threshold) and min(new) > max(old):
                alone = (new, old) == peaks and len(new) == len(old) == 1
                large = now > was * (1 + max(threshold, _NOISE_OF_ONE))
                sure = not alone or large or _median_growth(rows, row.contestant) > 1 + threshold
                found.append(MemoryChange(case, row.contestant, was, now, sure and row.contestant in counts))
            elif was > now * (1 + threshold) and min(old) > max(new):
                found.append(MemoryChange(case, row.contestant, was, now, False))
    return found


def _median_growth(rows: Sequence[tuple[str, Row, Row]], contestant: str) -> float:
    """Of the contestant's peaks over its cases, new by old."""
    return statistics.median(
        statistics.median(row.peak_bytes) / statistics.median(old_row.peak_bytes)
        for _, row, old_row in rows
        if row.contestant == contestant and row.peak_bytes and old_row.peak_bytes
    )
