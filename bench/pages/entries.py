"""A case's rows beside the contestants they belong to: what tables and plots are made from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from bench.record import MEASURED, Case, Report, Row
from bench.record.report import Contestant
from bench.record.statistics import Interval, items_per_second, seconds

__all__ = ["Entry", "by_parameter", "cases_of", "entries", "leaders", "timed", "untimed"]


@dataclass(frozen=True)
class Entry:
    """One row with what is known of its contestant."""

    case: Case
    row: Row
    contestant: Contestant

    @property
    def timed(self) -> bool:
        """Whether there is a time to show; of the workload "memory" there is none."""
        return self.row.is_timed and all(self.row.samples)

    @cached_property  # thousands of draws
    def seconds(self) -> Interval:
        """Of a pass."""
        return seconds(self.row)

    @cached_property
    def rate(self) -> Interval:
        """Items a second."""
        return items_per_second(self.case, self.row)

    @property
    def passes(self) -> list[float]:
        """Seconds of every counted pass."""
        return [each for samples in self.row.samples for each in samples]

    @property
    def colour(self) -> str:
        """One of `theme.COLOURS`."""
        kind = self.contestant.kind
        if self.is_baseline and kind != "engine":
            return "reference"
        return kind if kind in ("engine", "option") else "peer"

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it."""
        return self.row.contestant == self.case.baseline


def entries(report: Report, case: Case) -> list[Entry]:
    """All rows in their order; a contestant that the report does not describe is shown by its name."""
    known = {each.name: each for each in report.contestants}
    return [Entry(case, row, known.get(row.contestant, _unknown(row.contestant))) for row in case.rows]


def timed(report: Report, case: Case) -> list[Entry]:
    """Those with times, the fastest first."""
    return sorted((each for each in entries(report, case) if each.timed), key=lambda each: each.seconds.value)


def untimed(report: Report, case: Case) -> list[Entry]:
    """Those that were to be timed and have no times."""
    return [each for each in entries(report, case) if each.row.status != MEASURED]


def cases_of(report: Report, workload: str) -> list[Case]:
    """All cases of a workload."""
    return [case for case in report.cases if case.workload == workload]


def by_parameter(cases: Iterable[Case], name: str) -> dict[int, list[Case]]:
    """Cases by the value of one of their parameters, the least first; those without it are left out."""
    found: dict[int, list[Case]] = {}
    for case in cases:
        if name in case.parameters:
            found.setdefault(case.parameters[name], []).append(case)
    return dict(sorted(found.items()))


def leaders(report: Report, cases: Iterable[Case]) -> list[str]:
    """Names of those that lines of a plot are told by: the baseline, the fastest peer, this engine's fastest and its
    fastest in fp32, by how often they lead.
    """
    wins: dict[str, dict[str, int]] = {"engine": {}, "engine fp32": {}, "peer": {}, "baseline": {}}
    for case in cases:
        first: dict[str, str] = {}
        for each in timed(report, case):
            kind = each.contestant.kind
            groups = [kind] if kind in wins else []
            groups += ["engine fp32"] if kind == "engine" and each.contestant.precision == "fp32" else []
            groups += ["baseline"] if each.is_baseline else []
            for group in groups:
                first.setdefault(group, each.contestant.name)
        for group, name in first.items():
            wins[group][name] = wins[group].get(name, 0) + 1
    chosen = [max(counts, key=lambda name: counts[name]) for counts in wins.values() if counts]
    return list(dict.fromkeys(chosen))


def _unknown(name: str) -> Contestant:
    return Contestant(name, re.sub(r"[-_]", " ", name), "peer")
