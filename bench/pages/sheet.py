"""A figure as a sheet of panels, 480 units wide with letters of 12: on a phone, a quarter smaller, it can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.pages.formats import shortened
from bench.pages.theme import marker
from runtime.process import import_private

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["WIDTH", "Panel", "log_ticks", "plain_ticks", "sheet"]

WIDTH = 480
_EDGE = 8
_LETTERS = 60  # of a title
_TITLE = 26
_FOOT = 42


@dataclass(frozen=True)
class Panel:
    """A part of a figure, drawn below the one before.

    Attributes:
        height: of what is drawn, without title and axis.
        draw: what draws it.
        title: above it.
        above: of the vertical axis, what its numbers are.
        left: room for the numbers of a vertical axis.
        right: room for names at the ends of lines.
    """

    height: float
    draw: Callable[[Axes], None]
    title: str = ""
    above: str = ""
    left: float = _EDGE
    right: float = _EDGE


def sheet(panels: Sequence[Panel]) -> Figure:
    """A figure of panels, one below the other."""
    import_private("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heads = [(_TITLE if panel.title else 8) + (20 if panel.above else 0) for panel in panels]
    height = sum(panel.height + head + _FOOT for panel, head in zip(panels, heads, strict=True))
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    FigureCanvasAgg(figure)
    top = 0.0
    for panel, head in zip(panels, heads, strict=True):
        bottom = height - top - head - panel.height
        box = (panel.left / WIDTH, bottom / height, (WIDTH - panel.left - panel.right) / WIDTH, panel.height / height)
        axes = figure.add_axes(box)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(labelsize=11, pad=5)
        panel.draw(axes)
        if panel.title:
            y = 1 - (top + _TITLE - 12) / height
            figure.text(
                _EDGE / WIDTH, y, shortened(panel.title, _LETTERS), fontsize=12, fontweight="bold", va="baseline"
            )
        if panel.above:
            y = 1 - (top + head - 9) / height
            figure.text(_EDGE / WIDTH, y, panel.above, fontsize=11, color=marker("muted"), va="baseline")
        top += head + panel.height + _FOOT
    return figure


def plain_ticks(axis: Any) -> None:
    """About five round numbers."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def log_ticks(axis: Any, low: float, high: float, text: Callable[[float], str] | None = None) -> None:
    """Ticks at 1, 2, 5 of each decade, or fewer where there are many decades; with at least two numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(1 + each / 10 for each in range(0, 90, 2))):
        at = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(at) >= 3:
            break
    axis.set_major_locator(FixedLocator(at))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: (text or _short)(value)))


def _short(value: float) -> str:
    return f"{value:,.10g}" if abs(value) >= 1 or value == 0 else f"{value:.4g}"
