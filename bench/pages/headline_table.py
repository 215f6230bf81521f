"""The first table: the ratios that people ask for."""

from __future__ import annotations

from collections.abc import Iterator

from bench.pages.formats import (
    NOTHING,
    fidelity_text,
    interval_text,
    percent_text,
    plain,
    ratio_text,
    seconds_interval,
    seconds_text,
)
from bench.pages.table import Cell, Column, Line, Table
from bench.record import Fidelity, Report
from bench.record.headlines import ON_OUR_GRAPH, REFERENCE, WITHOUT_US, Headline, headlines

__all__ = ["headline_table"]

# Largest difference of what is called the same, see `bench.record.gates`.
_EQUAL = 1e-5
_HINT = "how many times as fast, with 95 % interval; below, the other's time"


def headline_table(*reports: Report) -> Table:
    """A line for each question and contestant of ours: how many times as fast as others.

    Args:
        reports: of more than one, each line names the family that its report is of first.
    """
    lines = [line for report in reports for line in _lines(report, len(reports) > 1)]
    columns = (
        *((Column("Family"),) if len(reports) > 1 else ()),
        Column("Question"),
        Column("This engine"),
        Column("Its time", True, "median over the rounds, with 95 % interval"),
        Column("Of the limit", True, "useful operations a second, of what a matrix product reaches in its precision"),
        *(Column(f"Against {each}", True, _HINT) for each in (REFERENCE, WITHOUT_US, ON_OUR_GRAPH)),
        Column("Memory", True, "our process's peak memory, of the reference's (else the other's); not the GPU's"),
    )
    note = (
        "For each question this engine's fastest, and its fastest in fp32, whose answers are PyTorch's, beside others "
        "in fp32. Without this project: what users make of the checkpoint themselves, int8 included. "
        "4× is a quarter of the time. In parentheses the 95 % interval. Where answers are not the reference's, cosines "
        "and regret say how far off; other tools' int8 that is off its gate is compared with all the same."
    )
    return Table("headlines", "How many times as fast", columns, tuple(lines), note)


def _lines(report: Report, named: bool) -> Iterator[Line]:
    known = {each.name: each.label for each in report.contestants}
    family = [Cell(plain(str(report.model.get("family", ""))))] if named else []
    grouped: dict[tuple[str, str], list[Headline]] = {}
    for each in headlines(report):
        grouped.setdefault((each.question, each.ours), []).append(each)
    for (question, ours), found in grouped.items():
        time = found[0].our_seconds
        against = {each.against: each for each in found}
        yield Line(
            (
                *family,
                Cell(question),
                Cell(plain(known.get(ours, ours)), small=_near(found[0].our_fidelity), tone="good", strong=True),
                Cell(seconds_text(time.value), time.value, seconds_interval(time)),
                _limit(found[0]),
                _against(against.get(REFERENCE), known, ""),
                _against(against.get(WITHOUT_US), known, f"the reference is {WITHOUT_US}"),
                _against(against.get(ON_OUR_GRAPH), known, ""),
                _share(next((each.memory for each in found if each.memory is not None), None)),
            ),
            "engine",
        )


def _against(headline: Headline | None, known: dict[str, str], why: str) -> Cell:
    if headline is None:
        return Cell(NOTHING, small=why)
    ratio = headline.ratio
    other = f"{plain(known.get(headline.theirs, headline.theirs))}, {seconds_text(headline.their_seconds.value)}"
    near = _near(headline.their_fidelity)
    other += f"; {near}" if near else ""
    other += "; off its gate" if headline.missed else ""
    ends = interval_text(ratio)
    text = f"{ratio_text(ratio.value)} ({ends})" if ends else ratio_text(ratio.value)
    return Cell(text, ratio.value, other, tone="good" if ratio.low > 1 else "", strong=True)


def _near(fidelity: Fidelity | None) -> str:
    """Of answers that are not the reference's to the last digits."""
    return "" if fidelity is None or fidelity.max_abs <= _EQUAL else fidelity_text(fidelity)


def _limit(headline: Headline) -> Cell:
    if headline.limit is None:
        return Cell(NOTHING)
    return Cell(percent_text(headline.limit), headline.limit, f"of {headline.rate}")


def _share(memory: float | None) -> Cell:
    return Cell(NOTHING) if memory is None else Cell(percent_text(memory), memory)
