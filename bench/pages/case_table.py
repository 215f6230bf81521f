"""The tables of cases: every contestant, with its figures or why it has none."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from bench.pages.entries import Entry, entries, untimed
from bench.pages.formats import (
    NOTHING,
    bytes_text,
    cosine_text,
    interval_text,
    number_text,
    percent_text,
    plain,
    ratio_text,
    seconds_interval,
    seconds_text,
    shortened,
)
from bench.pages.table import Cell, Column, Line, Table
from bench.record import FAILED, MEASURED, WRONG, Case, Report
from bench.record.statistics import seconds_quantile, share_of_rate, speedup

__all__ = ["case_table"]


_EMPTY = Cell(NOTHING)
_LONGEST = 80  # letters of a label
_TONES = {WRONG: "bad", FAILED: "bad"}


@dataclass(frozen=True)
class _Figure:
    """A column of a case's table; it is left out where no row has a cell."""

    column: Column
    cell: Callable[[Report, Entry], Cell | None]
    units: tuple[str, ...] = ("texts", "images", "starts")


def _seconds_cell(report: Report, entry: Entry) -> Cell | None:
    if not entry.timed:
        return None
    found = entry.seconds
    return Cell(seconds_text(found.value), found.value, seconds_interval(found) or "one pass", strong=True)


def _quantile(share: float) -> Callable[[Report, Entry], Cell | None]:
    def cell(report: Report, entry: Entry) -> Cell | None:
        if not entry.timed:
            return None
        value = seconds_quantile(entry.row, share)
        return Cell(seconds_text(value), value)

    return cell


def _rate_cell(report: Report, entry: Entry) -> Cell | None:
    if not entry.timed:
        return None
    rate = entry.rate
    return Cell(number_text(rate.value), rate.value, interval_text(rate))


def _ratio_cell(report: Report, entry: Entry) -> Cell | None:
    baseline = next((each for each in entries(report, entry.case) if each.is_baseline), None)
    if not entry.timed or baseline is None or not baseline.timed:
        return None
    if entry.is_baseline:
        return Cell("1", 1.0, "the baseline")
    ratio = speedup(entry.row, baseline.row)
    return Cell(ratio_text(ratio.value), ratio.value, interval_text(ratio), strong=True)


def _cosine(name: str) -> Callable[[Report, Entry], Cell | None]:
    def cell(report: Report, entry: Entry) -> Cell | None:
        if entry.row.fidelity is None:
            return None
        value = getattr(entry.row.fidelity, name)
        return Cell(cosine_text(value), value)

    return cell


def _centred_cell(report: Report, entry: Entry) -> Cell | None:
    value = entry.row.fidelity.mean_centred_cosine if entry.row.fidelity else None
    return None if value is None else Cell(cosine_text(value), value)


def _regret_cell(report: Report, entry: Entry) -> Cell | None:
    value = entry.row.fidelity.neighbour_regret if entry.row.fidelity else None
    return None if value is None else Cell(f"{value:.4f}", value)


def _roofline_cell(report: Report, entry: Entry) -> Cell | None:
    share = share_of_rate(entry.case, entry.row, entry.contestant.rate) if entry.timed else None
    return None if share is None else Cell(percent_text(share), share, f"of {entry.contestant.rate}")


def _peak_cell(report: Report, entry: Entry) -> Cell | None:
    if not entry.row.peak_bytes:
        return None
    value = float(statistics.median(entry.row.peak_bytes))
    return Cell(bytes_text(value), value)


def _resident_cell(report: Report, entry: Entry) -> Cell | None:
    points = entry.row.resident_bytes
    return Cell(f"{bytes_text(points[0])} → {bytes_text(points[-1])}", float(points[-1])) if points else None


def _part_cell(report: Report, entry: Entry) -> Cell | None:
    row = entry.row
    if not row.part_items:
        return None
    return Cell(f"{row.part_items:,}", float(row.part_items), f"{percent_text(row.part)} of the work")


_INTERVAL = "median over the rounds, with its 95 % bootstrap interval"
_FIGURES: tuple[_Figure, ...] = (
    _Figure(Column("Median", True, f"time of a pass: {_INTERVAL}"), _seconds_cell),
    _Figure(Column("Part", True, "what a pass computed where not all; its time is that of all"), _part_cell),
    _Figure(Column("p90", True, "no more than one pass in ten took longer"), _quantile(0.9)),
    _Figure(Column("p99", True, "no more than one pass in a hundred took longer"), _quantile(0.99)),
    _Figure(Column("{unit}/s", True, _INTERVAL), _rate_cell, ("texts", "images")),
    _Figure(Column("Times as fast", True, "as {baseline}, within each round; 95 % bootstrap interval"), _ratio_cell),
    _Figure(Column("Mean cosine", True, "of its answers with the reference's"), _cosine("mean_cosine")),
    _Figure(Column("Least cosine", True, "of its answers with the reference's"), _cosine("min_cosine")),
    _Figure(Column("Centred cosine", True, "mean, after the mean of all embeddings is taken off"), _centred_cell),
    _Figure(Column("Regret", True, "how much less alike the neighbour found is, in standard deviations"), _regret_cell),
    _Figure(Column("Of the limit", True, "useful operations a second, of the attainable rate"), _roofline_cell),
    _Figure(Column("Peak memory", True, "most resident memory of its process"), _peak_cell),
    _Figure(Column("Resident", True, "memory at the first and at the last point of the run"), _resident_cell),
)  # fmt: skip


def case_table(report: Report, case: Case) -> Table:
    """Every row of a case in the order in which they ran, whether it has a time or not."""
    found = entries(report, case)
    with_time = [each for each in found if each.row.status == MEASURED]
    columns = [Column("What"), Column("How")]
    cells = {id(each): [*_who(each)] for each in found}
    baseline = next((each.contestant.label for each in found if each.is_baseline), case.baseline)
    for figure in _FIGURES:
        made = [figure.cell(report, each) for each in with_time]
        if case.unit not in figure.units or not any(made):
            continue
        title = figure.column.title.format(unit=case.unit)
        columns.append(Column(title, figure.column.number, figure.column.hint.replace("{baseline}", baseline)))
        for each, cell in zip(with_time, made, strict=True):
            cells[id(each)].append(cell or _EMPTY)
    if len(columns) == 2:
        columns.append(Column("Figures"))
    for each in found:
        if each.row.status != MEASURED:
            cells[id(each)].append(_why(each))
        elif len(cells[id(each)]) == 2:
            cells[id(each)].append(_EMPTY)
    lines = tuple(Line(tuple(cells[id(each)]), each.contestant.kind) for each in found)
    title = plain(case.title)
    return Table(case.name, title[:1].upper() + title[1:], tuple(columns), lines, _note(report, case))


def _who(entry: Entry) -> tuple[Cell, Cell]:
    contestant = entry.contestant
    missed = plain(entry.row.missed)
    tag = "reference" if entry.is_baseline else "off its gate" if missed else ""
    tone = "bad" if missed else "good" if contestant.kind == "engine" else ""
    label = Cell(shortened(contestant.label, _LONGEST), small=missed, tag=tag, tone=tone, strong=True)
    return label, Cell(plain(contestant.how or contestant.provider) or NOTHING)


def _why(entry: Entry) -> Cell:
    """In place of figures."""
    reason, fidelity = plain(entry.row.reason).strip(), entry.row.fidelity
    if fidelity is not None:
        found = f"mean cosine {cosine_text(fidelity.mean_cosine)}, least {cosine_text(fidelity.min_cosine)}"
        reason = f"{reason} ({found})" if reason else found
    return Cell("", None, reason, entry.row.status, _TONES.get(entry.row.status, ""), rest=True)


def _note(report: Report, case: Case) -> str:
    rounds = max((len(row.samples) for row in case.rows), default=0)
    passes = max((len(samples) for row in case.rows for samples in row.samples), default=0)
    parts = [f"{case.items:,} {case.unit if case.items != 1 else case.unit.removesuffix('s')} in a pass"]
    if rounds:
        parts.append(f"{rounds} rounds of up to {passes} passes" if passes > 1 else f"{rounds} rounds of one pass")
    rates = [
        f"{name} {number_text(rate.operations / statistics.median(x for each in rate.samples for x in each) / 1e9)}"
        for name, rate in case.rates.items()
        if rate.samples and all(rate.samples)
    ]
    if rates:
        parts.append(f"attainable rates in these rounds, in billion operations a second: {', '.join(rates)}")
    missing = len(untimed(report, case))
    if missing:
        parts.append(f"{missing} without a time, and why")
    return "; ".join(parts) + "."
