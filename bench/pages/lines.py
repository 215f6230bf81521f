"""Panels of lines that are told by a name at their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.pages.formats import shortened
from bench.pages.sheet import Panel, log_ticks, plain_ticks
from bench.pages.theme import marker, name_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Line", "lines"]

_END_NAME = 20  # letters of a line of a name


@dataclass(frozen=True)
class Line:
    """Points of one contestant.

    Attributes:
        label: at its end; "" leaves the line in the background.
        kind: one of `theme.COLOURS`.
        x: of each point.
        y: of each point.
        low: ends of the intervals; none if empty.
        high: other ends.
        dashed: to tell two of a kind.
    """

    label: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False


def lines(
    rows: Sequence[Line],
    axes_labels: tuple[str, str],
    height: float = 210,
    log: tuple[bool, bool] = (False, False),
) -> Panel:
    """A panel of lines, each told by a name at its end.

    Args:
        rows: lines; those without a label are thin.
        axes_labels: what stands on the horizontal and on the vertical axis.
        height: of the panel.
        log: which of the two is logarithmic; the other begins at zero, and x is marked where there are points.
    """

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        if log[0]:
            axes.set_xscale("log")
        if log[1]:
            axes.set_yscale("log")
        for row in rows:
            _line(axes, row)
        at = sorted({x for row in rows for x in row.x})
        values = [y for row in rows for y in (*row.y, *row.high)]
        if log[1]:
            axes.set_ylim(min(values) / 1.2, max(values) * 1.2)
            log_ticks(axes.yaxis, min(values) / 1.2, max(values) * 1.2)
        else:
            axes.set_ylim(0, max(values) * 1.08)
            plain_ticks(axes.yaxis)
        axes.xaxis.set_major_locator(FixedLocator(at))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.grid(axis="y")
        axes.set_xlabel(axes_labels[0], fontsize=11)
        _end_labels(axes, [row for row in rows if row.label])

    return Panel(height, draw, above=axes_labels[1], left=52, right=152)


def _line(axes: Axes, row: Line) -> None:
    strong = bool(row.label)
    colour = marker(row.kind if strong else "line")
    drawn: dict[str, Any] = {"linewidth": 2.2 if strong else 1.2, "zorder": 3 if strong else 2}
    shape = {"engine": "o", "reference": "s"}.get(row.kind, "D")
    drawn |= {"marker": shape, "markersize": 5.5, "markeredgecolor": marker("paper")} if strong else {}
    axes.plot(row.x, row.y, color=colour, linestyle=(0, (4, 2)) if row.dashed else "-", **drawn)
    if strong and row.low:
        axes.vlines(row.x, row.low, row.high, colors=colour, linewidth=1.4)


def _end_labels(axes: Axes, rows: Sequence[Line]) -> None:
    """Names right of the last points, moved apart where they would touch."""
    if not rows:
        return
    step = 29.0  # two lines of text
    last = {id(row): float(axes.transData.transform((row.x[-1], row.y[-1]))[1]) for row in rows}
    box = axes.get_window_extent()
    ordered = sorted(rows, key=lambda row: last[id(row)])
    places: list[float] = []
    for row in ordered:
        places.append(max(last[id(row)], places[-1] + step if places else box.y0 + 6))
    over = max(0.0, places[-1] - (box.y1 + 4))
    for index in reversed(range(len(places))):
        limit = places[index + 1] - step if index + 1 < len(places) else places[index] - over
        places[index] = min(places[index], limit)
    right = (box.x1 + 10 - box.x0) / box.width
    for row, y in zip(ordered, places, strict=True):
        start = axes.transAxes.inverted().transform(axes.transData.transform((row.x[-1], row.y[-1])))
        place = (y - box.y0) / box.height
        axes.plot(
            (start[0], right - 0.01),
            (start[1], place),
            transform=axes.transAxes,
            color=marker("line"),
            linewidth=1,
            clip_on=False,
        )
        axes.text(
            right,
            place,
            _two_lines(row.label),
            transform=axes.transAxes,
            color=name_colour(row.kind),
            fontsize=11,
            va="center",
            linespacing=1.15,
            fontweight="bold" if row.kind == "engine" else "normal",
        )


def _two_lines(label: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(shortened(label, 2 * _END_NAME), _END_NAME, max_lines=2, placeholder="…"))
