"""The tables that are not about speed beside peers: LoadGen, manners, machine, versions, settings and model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.pages.formats import NOTHING, cosine_text, difference_text, number_text, plain, seconds_text, shortened
from bench.pages.table import Cell, Column, Line, Table
from bench.record import MET, MISSED, Goal, LoadGenRun, Manner, Report

__all__ = ["contestants_table", "fact_tables", "goals_table", "loadgen_table", "manners_table"]

_EMPTY = Cell(NOTHING)
_TONES = {MET: "good", MISSED: "bad"}
_YES_NO = {True: ("yes", "good"), False: ("no", "bad"), None: (NOTHING, "")}


def goals_table(report: Report) -> Table:
    """What was asked of the run, and what came out; in order."""
    columns = (Column("Goal"), Column("Asked"), Column("Found"), Column("Outcome"))
    note = "A goal counts as met where the median reaches it. What was not run says nothing either way."
    return Table("goals", "Goals", columns, tuple(Line(_goal(each)) for each in report.goals), note)


def _goal(goal: Goal) -> tuple[Cell, ...]:
    return (
        Cell(plain(goal.name), strong=True),
        Cell(plain(goal.asked)),
        Cell(plain(goal.found) or NOTHING),
        Cell("", small=plain(goal.reason), tag=goal.status, tone=_TONES.get(goal.status, "")),
    )


def loadgen_table(report: Report) -> Table:
    """Every run, in order."""
    known = {each.name: each.label for each in report.contestants}
    columns = (
        Column("System"),
        Column("Scenario"),
        Column("Engine"),
        Column("Metric"),
        Column("Figure", True),
        Column("Valid", hint="what LoadGen says of the run; of accuracy whether the gate was passed"),
        Column("Queries", True),
        Column("Settings"),
    )
    lines = tuple(Line(_loadgen(run, known), "engine") for run in report.loadgen)
    official = any(run.official for run in report.loadgen)
    note = "The durations and counts of the rules." if official else "Short runs: not the rules' durations and counts."
    return Table("loadgen-runs", "MLPerf LoadGen", columns, lines, note)


def _loadgen(run: LoadGenRun, known: Mapping[str, str]) -> tuple[Cell, ...]:
    fidelity = run.fidelity
    if run.mode == "accuracy":
        word, tone = {True: ("passed", "good"), False: ("missed", "bad"), None: ("not judged", "")}[run.passed]
        verdict = Cell("", small=plain(run.gate), tag=word, tone=tone)
        least = f"least cosine {cosine_text(fidelity.min_cosine)}" if fidelity else ""
        figure = Cell(cosine_text(run.value), run.value, least, strong=True)
    else:
        word, tone = {True: ("valid", "good"), False: ("invalid", "bad"), None: ("not judged", "")}[run.valid]
        verdict = Cell("", small=plain(run.reason), tag=word, tone=tone)
        text = seconds_text(run.value) if run.unit == "s" else f"{number_text(run.value)} /s"
        figure = Cell(text, run.value, strong=True)
    settings = ", ".join(f"{plain(name).replace('_', ' ')} {value:g}" for name, value in run.settings.items())
    return (
        Cell(run.system),
        Cell(run.scenario, small=run.mode),
        Cell(plain(known.get(run.contestant, run.contestant))),
        Cell(plain(run.metric)),
        figure,
        verdict,
        Cell(f"{len(run.latencies):,}", float(len(run.latencies))) if run.latencies else _EMPTY,
        Cell(settings or NOTHING, small="official" if run.official else ""),
    )


def contestants_table(report: Report) -> Table:
    """Who took part, and how each was run."""
    columns = (Column("What"), Column("How"), Column("Precision"), Column("Remark"))
    lines = tuple(
        Line(
            (
                Cell(
                    shortened(each.label, 80),
                    small=each.name,
                    tone="good" if each.kind == "engine" else "",
                    strong=True,
                ),
                Cell(plain(each.how or each.provider) or NOTHING),
                Cell(plain(each.precision)),
                Cell(plain(each.note) or NOTHING),
            ),
            each.kind,
        )
        for each in report.contestants
    )
    return Table(
        "contestants",
        "Who took part",
        columns,
        lines,
        "Peers run as their users run them, or tuned by those who know them.",
    )


def manners_table(report: Report) -> Table:
    """Every tool that was tried on the bundle's text folder."""
    columns = (
        Column("Tool"),
        Column("Version"),
        Column("Opens it"),
        Column("Same numbers"),
        Column("Largest difference", True),
        Column("Remark"),
    )
    lines = tuple(Line(_manner(each)) for each in report.manners)
    note = "Whether other tools open the bundle's text/ folder as it is, and give the runtime's numbers."
    return Table("manners", "Other tools on the same bundle", columns, lines, note)


def _manner(manner: Manner) -> tuple[Cell, ...]:
    opens, same = _YES_NO[manner.opens], _YES_NO[manner.same]
    difference = manner.max_abs
    return (
        Cell(plain(manner.tool), strong=True),
        Cell(plain(manner.version) or NOTHING),
        Cell("not installed") if manner.opens is None else Cell("", tag=opens[0], tone=opens[1]),
        _EMPTY if manner.same is None else Cell("", tag=same[0], tone=same[1]),
        _EMPTY if difference is None else Cell(difference_text(difference), difference),
        Cell(plain(manner.reason) or NOTHING),
    )


def fact_tables(report: Report) -> list[Table]:
    """Name and value: machine, settings, model, versions."""
    sources: Iterable[tuple[str, str, Mapping[str, Any]]] = (
        ("machine", "Machine", report.machine),
        ("settings", "Settings", report.settings),
        ("model", "Model", report.model),
        ("versions", "Versions", report.versions),
    )
    columns = (Column("What"), Column("Value"))
    return [
        Table(
            name,
            title,
            columns,
            tuple(Line((Cell(plain(str(key))), Cell(_value(value)))) for key, value in facts.items()),
        )
        for name, title, facts in sources
        if facts
    ]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(each)}" for key, each in value.items())
    return NOTHING if value is None else plain(str(value))
