"""What may be wrong in a report's content though it has the right keys: a file that was edited, or cut and mended."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

from bench.record.report import MET, MISSED, NOT_RUN, Report, Row

__all__ = ["faults"]


def faults(report: Report, statuses: Collection[str]) -> list[str]:
    """What those who read the report would stumble over.

    Args:
        report: as it was read.
        statuses: that a row may have.

    Returns:
        Reasons, each with the place; empty for a good report.
    """
    return [*_tables(report), *_names(report), *_cases(report, statuses), *_goals(report)]


def _tables(report: Report) -> Iterator[str]:
    for name in ("settings", "machine", "versions", "model"):
        if not isinstance(getattr(report, name), dict):
            yield f"{name} is a {type(getattr(report, name)).__name__}; an object is expected"


def _names(report: Report) -> Iterator[str]:
    for what, listed in (("contestant", report.contestants), ("case", report.cases)):
        names = [each.name for each in listed]
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                yield f"{what} {name!r} is there {names.count(name)} times"


def _cases(report: Report, statuses: Collection[str]) -> Iterator[str]:
    known = {each.name for each in report.contestants}
    for case in report.cases:
        names = [row.contestant for row in case.rows]
        for row in case.rows:
            where = f"case {case.name!r}, contestant {row.contestant!r}"
            if row.contestant not in known:
                yield f"{where}: not among the contestants"
            if names.count(row.contestant) > 1:
                yield f"{where}: is there {names.count(row.contestant)} times"
            if row.status not in statuses:
                yield f"{where}: status {row.status!r}; one of {', '.join(statuses)} is expected"
            yield from (f"{where}: {reason}" for reason in _row(row))
        for precision, rate in case.rates.items():
            if not _are_samples(rate.samples) or not _is_positive(rate.operations):
                yield f"case {case.name!r}, rate {precision!r}: samples or operations are no positive numbers"


def _goals(report: Report) -> Iterator[str]:
    for goal in report.goals:
        if goal.status not in (MET, MISSED, NOT_RUN):
            yield f"goal {goal.name!r}: status {goal.status!r}; one of {MET}, {MISSED}, {NOT_RUN} is expected"


def _row(row: Row) -> Iterator[str]:
    if not _are_samples(row.samples):
        yield "samples are no lists of positive numbers, one for each round"
    for name in ("peak_bytes", "resident_bytes"):
        values = getattr(row, name)
        if not isinstance(values, list) or not all(map(_is_positive, values)):
            yield f"{name} are no positive numbers"


def _are_samples(samples: Any) -> bool:
    return isinstance(samples, list) and all(
        isinstance(passes, list) and passes and all(map(_is_positive, passes)) for passes in samples
    )


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
