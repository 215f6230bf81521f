"""Draw a similarity map over its radiograph."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import MissingExtraError

__all__ = ["draw_overlay"]

_COLOURS = "RdBu_r"
_STRONGEST_ALPHA = 0.65
_BACKGROUND = "#101214"
_INK = "#e8e6e3"
_PANEL_INCHES = 5.2
_FOOTER_INCHES = 0.42
# Height over width under which the two panels are put one above the other.
_STACKED_BELOW = 0.6
_DPI = 150


def draw_overlay(
    grey: Image.Image,
    similarity_map: NDArray[np.float32],
    phrase: str,
    score: float,
    out: Path,
    note: str = "",
) -> None:
    """Write a picture: the radiograph, and beside it the radiograph under the map, with phrase, score and colour bar.

    Red is similar, blue is dissimilar, and what is neither leaves the film visible: the opacity follows the strength.
    The scale is symmetric around 0 and reaches to the strongest value; the dashed square is what the model sees.

    Args:
        grey: the radiograph, mode "L".
        similarity_map: float32 (H, W) in [-1, 1], NaN outside the crop; same size as the radiograph.
        phrase: the text.
        score: global similarity of image and text.
        out: the .png file to write.
        note: a line below the picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingExtraError("Drawing the overlay", "matplotlib", "plot") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    film = np.asarray(grey)
    height, width = film.shape
    inside = np.isfinite(similarity_map)
    limit = float(np.abs(similarity_map[inside]).max()) if inside.any() else 1.0
    # Rounded up to a tick, so that two pictures of similar strength share a scale.
    limit = min(1.0, max(0.05, np.ceil(limit * 20) / 20))

    # Wide films are stacked; very long ones get margins instead of a picture without end.
    aspect = float(np.clip(height / width, 0.1, 2.0))
    stacked = aspect < _STACKED_BELOW
    panel_width = 2 * _PANEL_INCHES if stacked else _PANEL_INCHES
    picture_height = panel_width * aspect * (2 if stacked else 1) + (0.15 if stacked else 0)
    lines = _wrap(phrase)
    header = 0.62 + 0.25 * len(lines)
    figure = Figure(
        figsize=(2 * _PANEL_INCHES + 1.1, picture_height + header + _FOOTER_INCHES), dpi=_DPI, facecolor=_BACKGROUND
    )
    FigureCanvasAgg(figure)
    total = figure.get_figheight()
    rows, columns = (2, 1) if stacked else (1, 2)
    grid = figure.add_gridspec(
        rows, columns, left=0.02, right=0.90, wspace=0.03, hspace=0.05, bottom=_FOOTER_INCHES / total,
        top=1 - header / total,
    )  # fmt: skip
    for panel in range(2):
        axes = figure.add_subplot(grid[panel // columns, panel % columns])
        axes.imshow(film, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        axes.set_axis_off()
    strength = np.nan_to_num(np.abs(similarity_map) / limit)
    shown = axes.imshow(
        similarity_map, cmap=_COLOURS, vmin=-limit, vmax=limit, alpha=_STRONGEST_ALPHA * np.clip(strength, 0, 1)
    )
    below, right = np.nonzero(inside)
    if len(below):
        corner = (right.min() - 0.5, below.min() - 0.5)
        side = (int(np.ptp(right)) + 1, int(np.ptp(below)) + 1)
        axes.add_patch(Rectangle(corner, *side, fill=False, edgecolor=_INK, linestyle="--", linewidth=0.8, alpha=0.7))
    shown_opaque = matplotlib.cm.ScalarMappable(shown.norm, shown.cmap)
    bar_height = max(1.6, picture_height) / total
    bar_axes = figure.add_axes((0.915, max(_FOOTER_INCHES / total, 1 - header / total - bar_height), 0.012, bar_height))
    bar = figure.colorbar(shown_opaque, cax=bar_axes)
    bar.set_label("cosine of patch and phrase", color=_INK, fontsize=9)
    bar.outline.set_edgecolor(_INK)
    bar.ax.tick_params(colors=_INK, labelsize=8)
    for index, line in enumerate(lines):
        figure.text(
            0.02, 1 - (0.28 + 0.25 * index) / total, line, color=_INK, fontsize=13, va="center", parse_math=False
        )
    score_at = 1 - (0.33 + 0.25 * len(lines)) / total
    figure.text(0.02, score_at, f"image–text similarity {score:+.3f}", color=_INK, fontsize=10, va="center")
    if note:
        figure.text(0.02, 0.2 / total, note, color="#ffb454", fontsize=8.5, va="center")
    with warnings.catch_warnings():
        # Characters that the font lacks are drawn as boxes; matplotlib would say so with a line of its source for each.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(out, format="png", facecolor=_BACKGROUND)


def _wrap(phrase: str) -> list[str]:
    """The phrase in quotes, on at most two lines."""
    return textwrap.wrap(f"“{' '.join(phrase.split())}”", width=100, max_lines=2, placeholder=" …”") or ["“”"]
