"""Figures of named bars and spreads: throughput, latency, share of the machine's rate, cold start, LoadGen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.pages.bars import Bar, Spread, bars, spreads
from bench.pages.entries import Entry, cases_of, timed
from bench.pages.formats import bytes_text, number_text, percent_text, seconds_text
from bench.pages.sheet import Panel, sheet
from bench.record import Case, LoadGenRun, Report
from bench.record.statistics import share_of_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["cold_start", "files", "latency", "loadgen", "pixels", "roofline", "texts"]


def texts(report: Report) -> Figure | str:
    """Texts a second of the case "texts"."""
    return _throughput(report, report.case("texts"), "texts")


def files(report: Report) -> Figure | str:
    """Images a second of the case "files"."""
    return _throughput(report, report.case("files"), "files")


def pixels(report: Report) -> Figure | str:
    """Images a second of prepared images, four at a time if that was run."""
    return _throughput(report, _pixels(report), "pixels-4")


def latency(report: Report) -> Figure | str:
    """Spread of the seconds of a query."""
    case = report.case("query")
    found = timed(report, case) if case else []
    if not found:
        return _why("query", case)
    rows = [Spread(each.contestant.label, each.colour, each.passes, seconds_text(each.seconds.value)) for each in found]
    return sheet([spreads(rows, "time of a query (logarithmic)")])


def roofline(report: Report) -> Figure | str:
    """Share of the matrix products' rate, of texts and of prepared images."""
    panels = []
    for case in (report.case("texts"), _pixels(report)):
        if case is None:
            continue
        shares = [
            (share, each)
            for each in timed(report, case)
            if (share := share_of_rate(case, each.row, each.contestant.rate)) is not None
        ]
        shares.sort(key=lambda pair: -pair[0])
        rows = [
            Bar(
                each.contestant.label,
                each.colour,
                share * 100,
                f"{percent_text(share)} of {each.contestant.rate}",
            )
            for share, each in shares
        ]
        if rows:
            panel = bars(rows, "% of the attainable rate in the same precision", 100)
            panels.append(Panel(panel.height, panel.draw, case.title))
    return sheet(panels) if panels else "no attainable rate was measured beside texts or prepared images"


def cold_start(report: Report) -> Figure | str:
    """Seconds and memory from a process's start to its first answer."""
    case = report.case("cold-start")
    found = timed(report, case) if case else []
    if case is None or not found:
        return _why("cold-start", case)
    time = bars([_bar(each, each.seconds.value, *_ends(each)) for each in found], "seconds, with 95 % interval")
    panels = [Panel(time.height, time.draw, "Until the first answer")]
    used = [(float(np.median(each.row.peak_bytes)), each) for each in found if each.row.peak_bytes]
    if used:
        rows = [
            Bar(each.contestant.label, each.colour, peak / 1e6, bytes_text(peak))
            for peak, each in sorted(used, key=lambda pair: pair[0])
        ]
        memory = bars(rows, "MB")
        panels.append(Panel(memory.height, memory.draw, "Most memory until then"))
    return sheet(panels)


def loadgen(report: Report) -> Figure | str:
    """Spread of the latencies of LoadGen's queries; not of Offline's, which has one."""
    names = {each.name: each.label for each in report.contestants}
    panels = []
    for system in dict.fromkeys(run.system for run in report.loadgen):
        rows = [
            Spread(
                f"{run.scenario} · {names.get(run.contestant, run.contestant)}",
                "engine" if run.valid else "peer",
                run.latencies,
                f"p90 {seconds_text(float(np.quantile(run.latencies, 0.9, method='higher')))}",
            )
            for run in report.loadgen
            if run.system == system and _has_spread(run)
        ]
        if rows:
            panel = spreads(rows, "latency of a query (logarithmic)")
            panels.append(Panel(panel.height, panel.draw, f"{system.capitalize()} system"))
    return sheet(panels) if panels else "LoadGen was not run"


def _has_spread(run: LoadGenRun) -> bool:
    """Offline all samples are asked for at once: how long each waited says nothing."""
    performance = run.mode == "performance" and run.scenario != "Offline"
    return performance and len(run.latencies) > 1 and min(run.latencies) > 0


def _pixels(report: Report) -> Case | None:
    return report.case("pixels-4") or next(iter(cases_of(report, "pixels")), None)


def _throughput(report: Report, case: Case | None, name: str) -> Figure | str:
    found = timed(report, case) if case else []
    if case is None or not found:
        return _why(name, case)
    rows = []
    for each in found:
        rate = each.rate
        rows.append(_bar(each, rate.value, rate.low, rate.high))
    return sheet([bars(rows, f"{case.unit} a second, with 95 % interval")])


def _bar(entry: Entry, value: float, low: float, high: float) -> Bar:
    text = number_text(value) if entry.case.unit != "starts" else seconds_text(value)
    return Bar(entry.contestant.label, entry.colour, value, text, low, high)


def _ends(entry: Entry) -> tuple[float, float]:
    return entry.seconds.low, entry.seconds.high


def _why(name: str, case: Case | None) -> str:
    return f"“{name}” was not run" if case is None else f"nothing was timed in “{case.name}”"
