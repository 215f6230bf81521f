"""Figures of lines: throughput against shapes, corpus and threads, and memory against time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.pages.entries import by_parameter, cases_of, entries, leaders, timed
from bench.pages.lines import Line, lines
from bench.pages.sheet import Panel, sheet
from bench.record import Case, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["batches", "corpus", "lengths", "memory", "threads"]


def lengths(report: Report) -> Figure | str:
    """Texts a second against tokens, a panel for each batch."""
    shapes = [*cases_of(report, "query"), *cases_of(report, "shapes")]
    panels = []
    chosen = leaders(report, shapes)
    for batch, cases in by_parameter(shapes, "batch").items():
        found = _by(report, cases, "tokens", chosen)
        if found:
            panel = lines(found, ("tokens", "texts a second"), 190, (True, True))
            panels.append(_titled(panel, f"{batch} text{'s' if batch > 1 else ''} at once"))
    return sheet(panels) if panels else "no fixed shape was timed"


def batches(report: Report) -> Figure | str:
    """Images a second against images in a batch."""
    return _scaling(report, "pixels", "batch", ("images in a batch", "images a second"), True)


def corpus(report: Report) -> Figure | str:
    """Texts a second against texts in one call."""
    return _scaling(report, "corpus", "texts", ("texts in one call", "texts a second"), True)


def threads(report: Report) -> Figure | str:
    """Texts a second against threads."""
    return _scaling(report, "threads", "threads", ("threads", "texts a second"), False)


def memory(report: Report) -> Figure | str:
    """Resident memory at points of a long run."""
    found = []
    for case in cases_of(report, "memory"):
        for each in entries(report, case):
            if each.row.resident_bytes:
                points = [count / 1e6 for count in each.row.resident_bytes]
                found.append(Line(each.contestant.label, each.colour, range(1, len(points) + 1), points))
    dashed = [Line(line.label, line.kind, line.x, line.y, dashed=index > 0) for index, line in enumerate(found)]
    return sheet([lines(dashed, ("point of the run", "MB resident"))]) if found else "memory was not watched"


def _scaling(report: Report, workload: str, parameter: str, labels: tuple[str, str], log: bool) -> Figure | str:
    cases = cases_of(report, workload)
    found = _by(report, cases, parameter, leaders(report, cases))
    return (
        sheet([lines(found, labels, 240, (log, False))])
        if found
        else f"“{workload}” was not run, or nothing in it was timed"
    )


def _by(report: Report, cases: Sequence[Case], parameter: str, chosen: Sequence[str]) -> list[Line]:
    """A line for each contestant; those chosen come last, above the others, and have names."""
    points: dict[str, list[tuple[float, float, float, float]]] = {}
    told: dict[str, tuple[str, str]] = {}
    for value, same in by_parameter(cases, parameter).items():
        for case in same:
            for each in timed(report, case):
                rate = each.rate
                points.setdefault(each.contestant.name, []).append((value, rate.value, rate.low, rate.high))
                kind = each.colour
                told[each.contestant.name] = (each.contestant.label, kind)
    ordered = sorted(points, key=lambda name: name in chosen)
    engines = [name for name in chosen if told.get(name, ("", ""))[1] == "engine"]
    rows = []
    for name in ordered:
        x, y, low, high = (list(column) for column in zip(*points[name], strict=True))
        label, kind = told[name]
        rows.append(Line(label if name in chosen else "", kind, x, y, low, high, name in engines[1:]))
    return rows


def _titled(panel: Panel, title: str) -> Panel:
    return replace(panel, title=title)
