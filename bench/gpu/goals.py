"""What is asked of the GPU, and whether a report shows it.

The figures are this project's goals on an H100; what is asked of answers are the gates of the exports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bench.gpu.cases import PARITY, TOKENS
from bench.pages.formats import number_text, ratio_text, seconds_text
from bench.record import FAILED, GPU, MEASURED, MET, MISSED, NOT_RUN, WRONG, Case, Goal, Report, Row
from bench.record.gates import describe_gate
from bench.record.headlines import fastest
from bench.record.statistics import seconds, speedup

__all__ = ["SPEEDS", "Speed", "judge_goals"]

# Times as fast as the fastest other, case, row of ours, row of the other → the figure, and in words.
_Figure = Callable[[Case, Row, "Row | None"], "tuple[float, str] | None"]


@dataclass(frozen=True)
class Speed:
    """A goal of speed.

    Attributes:
        name: unique.
        case: its name.
        asked: in words.
        reaches: whether a figure does.
        figure: of the case, our fastest row and the fastest other, if there is one; None where it cannot be told.
    """

    name: str
    case: str
    asked: str
    reaches: Callable[[float], bool]
    figure: _Figure


def _rate(case: Case, ours: Row, other: Row | None) -> tuple[float, str]:
    found = case.parameters[TOKENS] / seconds(ours).value
    return found, f"{number_text(found)} tokens/s"


def _latency(case: Case, ours: Row, other: Row | None) -> tuple[float, str]:
    found = seconds(ours).value
    return found, seconds_text(found)


def _times(case: Case, ours: Row, other: Row | None) -> tuple[float, str] | None:
    if other is None:
        return None
    found = speedup(ours, other).value
    return found, f"{ratio_text(found)} the speed of {other.contestant}"


def _speed_at_least(bound: float, figure: _Figure, name: str, case: str, asked: str) -> Speed:
    return Speed(name, case, asked.format(bound), lambda found: found >= bound, figure)


_TWICE = "at least {:g} × as fast as the fastest other"
_QUERY_SECONDS = 1.2e-3
SPEEDS: tuple[Speed, ...] = (
    _speed_at_least(600_000, _rate, "texts", "texts", "strings → embeddings, at least {:,} tokens a second"),
    Speed(
        "query",
        "query",
        f"one text of 16 tokens in at most {seconds_text(_QUERY_SECONDS)}",
        lambda found: found <= _QUERY_SECONDS,
        _latency,
    ),
    _speed_at_least(2, _times, "files", "files", f"JPEG files → embeddings, {_TWICE}"),
    _speed_at_least(2, _times, "images-4", "pixels-4", f"four prepared images, {_TWICE}"),
    _speed_at_least(2, _times, "images-64", "pixels-64", f"64 prepared images, {_TWICE}"),
)


def judge_goals(report: Report, device: str = GPU) -> list[Goal]:
    """Every goal with what a report says of it.

    Args:
        report: of a check.
        device: where contestants ran. On another one than a GPU no goal is run; what was found there is the reason.
    """
    goals = [*_parities(report, device), *(_speed(report, speed, device) for speed in SPEEDS)]
    return goals if device == GPU else [_stood_in(goal) for goal in goals]


def _parities(report: Report, device: str) -> Iterator[Goal]:
    """One for each part and precision of ours that could take part."""
    for system in ("texts", "images"):
        case = report.case(f"{PARITY}{system}")
        for each in report.contestants:
            if each.kind == "engine" and each.device == device:
                goal = Goal(f"{PARITY}{system}-{each.precision}", describe_gate(each.precision), NOT_RUN)
                row = case.row(each.name) if case else None
                if row is None:
                    yield replace(goal, reason=_why_not(report, "its answers were not compared"))
                else:
                    assert case is not None, "it has the row"
                    yield replace(goal, reason=unknown) if (unknown := _no_baseline(case)) else _parity(goal, row)


def _parity(goal: Goal, row: Row) -> Goal:
    near = row.fidelity
    if near is not None:
        goal = replace(goal, found=f"largest difference {near.max_abs:.2g}, least cosine {near.min_cosine:.5f}")
    if row.status == MEASURED and near is not None:
        return replace(goal, status=MET)
    missed = row.status in (WRONG, FAILED)
    return replace(goal, status=MISSED if missed else NOT_RUN, reason=_last_line(row.reason))


def _speed(report: Report, speed: Speed, device: str) -> Goal:
    goal = Goal(speed.name, speed.asked, NOT_RUN)
    case = report.case(speed.case)
    if case is None:
        return replace(goal, reason=_why_not(report, f"there is no case '{speed.case}' in the report"))
    ours = fastest(report, case, ("engine",), device=device)
    if ours is None:
        return _no_time(goal, report, case, device)
    figure = speed.figure(case, ours, fastest(report, case, ("reference", "peer"), device=device))
    if figure is None:
        return replace(goal, reason="no other was measured to compare with")
    value, words = figure
    status = MET if speed.reaches(value) else MISSED
    return replace(goal, status=status, found=f"{words} ({ours.contestant})")


def _no_time(goal: Goal, report: Report, case: Case, device: str) -> Goal:
    """Wrong answers and crashes miss a goal, however fast."""
    unknown = _no_baseline(case)
    if unknown:
        return replace(goal, reason=unknown)
    names = {each.name for each in report.contestants if each.kind == "engine" and each.device == device}
    rows = [row for row in case.rows if row.contestant in names]
    missed = any(row.status in (WRONG, FAILED) for row in rows)
    reasons = "; ".join(dict.fromkeys(f"{row.contestant}: {_last_line(row.reason)}" for row in rows if row.reason))
    return replace(goal, status=MISSED if missed else NOT_RUN, reason=reasons or _why_not(report, "nothing was timed"))


def _no_baseline(case: Case) -> str:
    """Why there is nothing to compare answers with, or ""."""
    row = case.row(case.baseline)
    if row is None:
        return f"'{case.baseline}' did not take part"
    return "" if row.status == MEASURED else f"'{case.baseline}' gave no answer: {_last_line(row.reason)}"


def _stood_in(goal: Goal) -> Goal:
    """What a processor reached says nothing of a GPU."""
    there = "; ".join(each for each in (goal.found, goal.reason) if each)
    reason = f"the processor stood in for the GPU: {there}" if there else "the processor stood in for the GPU"
    return replace(goal, status=NOT_RUN, found="", reason=reason)


def _why_not(report: Report, otherwise: str) -> str:
    return report.partial or otherwise


def _last_line(reason: str) -> str:
    return (reason.strip().splitlines() or [""])[-1]
