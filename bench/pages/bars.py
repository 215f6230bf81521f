"""Panels of named bars, and of named spreads of latencies: the name stands above, as there is no room beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.pages.formats import shortened
from bench.pages.sheet import Panel, log_ticks, plain_ticks
from bench.pages.theme import marker, name_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bar", "Spread", "bars", "spreads"]

_ROW = 36  # height of a bar with its name
_NAME = 44  # letters


@dataclass(frozen=True)
class Bar:
    """A figure with its interval.

    Attributes:
        label: whose it is.
        kind: one of `theme.COLOURS`.
        value: length of the bar.
        text: the figure as it is written.
        low: end of the interval, or None.
        high: other end.
    """

    label: str
    kind: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Spread:
    """Latencies of many passes, in seconds."""

    label: str
    kind: str
    values: Sequence[float]
    text: str


def bars(rows: Sequence[Bar], axis: str, least_end: float = 0.0) -> Panel:
    """A panel of bars from zero, in the order given.

    Args:
        rows: bars.
        axis: what the numbers are, with their unit.
        least_end: how far the axis reaches at least.
    """

    def draw(axes: Axes) -> None:
        end = max([least_end, *(row.high if row.high is not None else row.value for row in rows)])
        for y, row in _named(axes, rows):
            axes.barh(y + 0.2, row.value, 0.22, color=marker(row.kind))
            if row.low is not None and row.high is not None and row.low < row.high:
                axes.plot((row.low, row.high), (y + 0.2, y + 0.2), color=marker("ink"), linewidth=1.4)
                for x in (row.low, row.high):
                    axes.plot((x, x), (y + 0.12, y + 0.28), color=marker("ink"), linewidth=1.4)
        axes.set_xlim(0, (end or 1) * 1.02)
        plain_ticks(axes.xaxis)
        _labelled(axes, axis)

    return Panel(_ROW * len(rows), draw)


def spreads(rows: Sequence[Spread], axis: str) -> Panel:
    """A panel of box plots on a logarithmic axis: box 25–75 %, line 50 %, whiskers 1–99 %, dot 90 %, diamond 99 %."""

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        for y, row in _named(axes, rows):
            at = [float(each) for each in np.quantile(row.values, (0.01, 0.25, 0.5, 0.75))]
            p90, p99 = (float(np.quantile(row.values, share, method="higher")) for share in (0.9, 0.99))
            colour, middle = marker(row.kind), y + 0.2
            axes.plot((at[0], p99), (middle, middle), color=colour, linewidth=1.4)
            axes.barh(middle, at[3] - at[1], 0.26, left=at[1], color=colour)
            axes.plot((at[2], at[2]), (middle - 0.17, middle + 0.17), color=marker("ink"), linewidth=2)
            for x, shape, size in ((p90, "o", 6.5), (p99, "D", 6)):
                axes.plot(
                    x, middle, shape, color=colour, markersize=size, markeredgecolor=marker("paper"), markeredgewidth=1
                )
        low = min(float(np.quantile(row.values, 0.01)) for row in rows)
        high = max(float(np.quantile(row.values, 0.99, method="higher")) for row in rows)
        axes.set_xlim(low / 1.15, high * 1.15)
        log_ticks(axes.xaxis, low / 1.15, high * 1.15, _seconds)
        _labelled(axes, axis)

    return Panel(_ROW * len(rows), draw)


def _named(axes: Axes, rows: Sequence[Any]) -> list[tuple[int, Any]]:
    """Names and figures above each row's place; returns the places."""
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    for y, row in enumerate(rows):
        strong = "bold" if row.kind == "engine" else "normal"
        colour = name_colour(row.kind)
        across = axes.get_yaxis_transform()
        axes.text(0, y - 0.08, shortened(row.label, _NAME), transform=across, color=colour, fontweight=strong)
        axes.text(1, y - 0.08, row.text, transform=across, ha="right", fontweight=strong)
    axes.grid(axis="x")
    return list(enumerate(rows))


def _labelled(axes: Axes, label: str) -> None:
    axes.set_xlabel(label, fontsize=11)
    # Numbers at the very ends would be cut by the edge.
    texts = axes.get_xticklabels()
    low, high = axes.get_xlim()
    for text, at in zip(texts, axes.get_xticks(), strict=False):
        place = axes.transAxes.inverted().transform(axes.transData.transform((at, 0)))[0]
        if low <= at <= high and (place < 0.03 or place > 0.97):
            text.set_horizontalalignment("left" if place < 0.5 else "right")


def _seconds(value: float) -> str:
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if value * factor < 999.5:
            return f"{value * factor:.3g} {unit}"
    return f"{value:.3g} s"
