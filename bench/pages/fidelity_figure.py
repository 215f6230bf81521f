"""The Pareto picture: how near each contestant's answers are to the reference's, against how fast it gives them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.pages.entries import timed
from bench.pages.formats import shortened
from bench.pages.sheet import Panel, log_ticks, sheet
from bench.pages.theme import marker, name_colour
from bench.record import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

__all__ = ["fidelity", "pareto"]

# Nearer than numbers in single precision can tell.
_LEAST = 1e-7
_NAME = 34  # letters
_SHAPES = {"fp32": "o", "bf16": "s", "fp16": "s", "int8": "^"}
# Where a name may stand, from its point: right or left, beside it, higher or lower, then further away.
_PLACES = tuple(
    (x * far, y * far, align)
    for far in (1.0, 1.8, 2.8, 4.0)
    for x, align in ((8, "left"), (-8, "right"))
    for y in (0, 9, -9)
)


@dataclass(frozen=True)
class Point:
    """A contestant: 1 − mean cosine, and items a second."""

    label: str
    kind: str
    precision: str
    error: float
    rate: float


def fidelity(report: Report) -> Figure | str:
    """Of the case "texts": every artifact and every peer."""
    case = report.case("texts")
    if case is None:
        return "“texts” was not run"
    points = []
    for each in timed(report, case):
        found = each.row.fidelity
        if found is None and not each.is_baseline:
            continue
        error = max(1 - found.mean_cosine, _LEAST) if found else _LEAST
        kind = each.colour
        points.append(Point(each.contestant.label, kind, each.contestant.precision, error, each.rate.value))
    if not any(point.kind != "reference" for point in points):
        return "nothing was both timed and compared in “texts”"
    above = f"{case.unit} a second (logarithmic)"
    return sheet([Panel(390, lambda axes: _draw(axes, points), above=above, left=40)])


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those than which no other is at once as near and as fast; the nearest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.error, -each.rate)):
        if not best or point.rate > best[-1].rate:
            best.append(point)
    return best


def _draw(axes: Axes, points: Sequence[Point]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    left, right = _LEAST / 1.6, max(10 * max(point.error for point in points), 2e-2)
    low, high = min(point.rate for point in points) / 1.35, max(point.rate for point in points) * 1.35
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    log_ticks(
        axes.xaxis, left, right, lambda value: "≤1e-7" if value < _LEAST * 1.01 else f"{value:.0e}".replace("e-0", "e-")
    )
    log_ticks(axes.yaxis, low, high)
    axes.grid()
    axes.set_xlabel("1 − mean cosine with the reference (logarithmic); left is nearer", fontsize=11)
    front = pareto(points)
    axes.plot(
        [*(point.error for point in front), right],
        [*(point.rate for point in front), front[-1].rate],
        color=marker("engine"),
        linewidth=1.4,
        linestyle=(0, (4, 3)),
        drawstyle="steps-post",
        zorder=1.5,
    )
    for point in points:
        axes.plot(
            point.error,
            point.rate,
            _SHAPES.get(point.precision, "o"),
            color=marker(point.kind),
            markersize=8.5 if point.kind == "engine" else 7,
            markeredgecolor=marker("paper"),
            zorder=3,
        )
    _names(axes, points, front)


def _names(axes: Axes, points: Sequence[Point], front: Sequence[Point]) -> None:
    """A name beside every point, where it hides none and touches no other name, rather off the front; what finds no
    place has none. What matters most comes first.
    """
    box = axes.get_window_extent()
    at = {id(point): axes.transData.transform((point.error, point.rate)) for point in points}
    lines = _front_boxes([at[id(point)] for point in front], box.x1)
    named: list[Bbox] = []
    order = {"engine": 0, "reference": 1}
    for point in sorted(points, key=lambda each: (order.get(each.kind, 2), -each.rate)):
        # Wide: a name right beside another's point would be taken for that one's.
        others = [_around(x, y, 14, 4) for key, (x, y) in at.items() if key != id(point)]
        found: list[tuple[int, tuple[float, float, str], Bbox]] = []
        for rank, place in enumerate(_PLACES):
            text, extent = _name(axes, point, place)
            text.remove()
            inside = extent.x0 >= box.x0 and extent.x1 <= box.x1 + 6 and extent.y0 >= box.y0 and extent.y1 <= box.y1
            if inside and not any(extent.overlaps(other) for other in [*others, *named]):
                crossed = any(extent.overlaps(line) for line in lines)
                found.append((rank + 2 * crossed, place, extent))
        if found:
            _, place, extent = min(found, key=lambda each: each[0])
            _name(axes, point, place)
            named.append(extent)


def _name(axes: Axes, point: Point, place: tuple[float, float, str]) -> tuple[Annotation, Bbox]:
    from matplotlib.text import Text

    dx, dy, align = place
    pointer = {"arrowstyle": "-", "color": marker("line"), "shrinkA": 0, "shrinkB": 4}
    text = axes.annotate(
        shortened(point.label, _NAME),
        (point.error, point.rate),
        (dx, dy),
        textcoords="offset pixels",
        ha=align,
        va="center",
        fontsize=10.5,
        color=name_colour(point.kind),
        fontweight="bold" if point.kind == "engine" else "normal",
        arrowprops=pointer if abs(dx) > 17 else None,
        # The front goes on behind it.
        bbox={"facecolor": marker("paper"), "edgecolor": "none", "pad": 0.5},
        zorder=2.5,
    )
    renderer = axes.figure.canvas.get_renderer()
    text.update_positions(renderer)
    return text, Text.get_window_extent(text, renderer)  # an annotation's own holds its pointer too


def _front_boxes(corners: Sequence[tuple[float, float]], end: float) -> list[Bbox]:
    from matplotlib.transforms import Bbox

    found = []
    for (x, y), (next_x, next_y) in itertools.pairwise([*corners, (end, corners[-1][1])]):
        found.append(Bbox([(x, y - 1), (next_x, y + 1)]))
        found.append(Bbox([(next_x - 1, y), (next_x + 1, next_y)]))
    return found


def _around(x: float, y: float, wide: float, high: float) -> Bbox:
    from matplotlib.transforms import Bbox

    return Bbox.from_extents(x - wide, y - high, x + wide, y + high)
