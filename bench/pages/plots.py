"""Every plot of the report: its name, how it is read, what draws it. A new plot is one more line of `PLOTS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.pages import bar_figures, fidelity_figure, line_figures
from bench.pages.theme import drawing, inline_svg
from bench.record import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PLOTS", "Plot", "Plotted", "draw_plots"]


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        name: of its file, and unique in the page.
        title: above it.
        caption: how it is read.
        draw: from a report to a figure, or to why there is none.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Report], Figure | str]


@dataclass(frozen=True)
class Plotted:
    """A plot of one report.

    Attributes:
        plot: which.
        svg: an <svg> element, or "".
        missing: why it was not drawn, or "".
    """

    plot: Plot
    svg: str
    missing: str


_BARS = (
    "Longer is better. The thin line is the 95 % interval. "
    "What has no time is missing here and has its reason in the table."
)
_ENDS = "Thin grey lines are all other contestants; the tables have them."

PLOTS: tuple[Plot, ...] = (
    Plot("texts", "Throughput: an archive of reports", _BARS, bar_figures.texts),
    Plot(
        "fidelity",
        "Fidelity against speed",
        "Up is faster, left is nearer to the reference's embeddings. Nothing is both faster and nearer than what the "
        "dashed line joins. Round: fp32, square: bf16 or fp16, triangle: int8.",
        fidelity_figure.fidelity,
    ),
    Plot(
        "latency",
        "Latency of one short query",
        "Left is better. Of all passes of all rounds: the box is the middle half, the bar in it the median, the dot "
        "the 90th percentile, the diamond the 99th; the line begins at the 1st. The figure is the table's median.",
        bar_figures.latency,
    ),
    Plot("files", "Throughput: JPEG files", _BARS, bar_figures.files),
    Plot("pixels", "Throughput: prepared images", _BARS, bar_figures.pixels),
    Plot(
        "lengths",
        "Throughput against length and batch",
        f"Up is better; both axes are logarithmic. Texts of equal length. {_ENDS}",
        line_figures.lengths,
    ),
    Plot(
        "batches",
        "Throughput against images in a batch",
        f"Up is better. Prepared images. {_ENDS}",
        line_figures.batches,
    ),
    Plot(
        "roofline",
        "Share of the attainable rate",
        "Useful operations a second, of the rate of a matrix product of the same precision, run in the same rounds. "
        "Operations are those of the published model, so work that is avoided counts as done.",
        bar_figures.roofline,
    ),
    Plot(
        "cold-start",
        "Cold start",
        "Shorter is better. From the start of a new process, imports and loading included.",
        bar_figures.cold_start,
    ),
    Plot("memory", "Memory over a long run", "A line that keeps rising is a leak.", line_figures.memory),
    Plot(
        "corpus",
        "Scaling with the size of the corpus",
        f"Up is better. More texts give more of equal length to put together. {_ENDS}",
        line_figures.corpus,
    ),
    Plot(
        "threads",
        "Scaling with threads",
        f"Up is better; twice the threads at best double it. {_ENDS}",
        line_figures.threads,
    ),
    Plot(
        "loadgen",
        "MLPerf LoadGen: latencies",
        "Left is better; boxes as above. Runs that LoadGen calls invalid are grey. Offline asks all at once and is "
        "not shown.",
        bar_figures.loadgen,
    ),
)


def draw_plots(report: Report) -> list[Plotted]:
    """All of `PLOTS`, in order."""
    return [_draw(plot, report) for plot in PLOTS]


def _draw(plot: Plot, report: Report) -> Plotted:
    with drawing(plot.name):
        figure = plot.draw(report)
        if isinstance(figure, str):
            return Plotted(plot, "", figure)
        return Plotted(plot, inline_svg(figure, plot.name, f"{plot.title}. {plot.caption}"), "")
