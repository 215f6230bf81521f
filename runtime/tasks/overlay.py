"""Draw where a phrase is found in a radiograph."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import MissingExtraError
from runtime.files import check_destinations
from runtime.files.replaceable import GENERATOR
from runtime.files.whole_file import whole_file
from runtime.process import import_private
from runtime.tasks.grounding import Box, Grounding, GroundingScores

__all__ = ["draw_overlay", "render_overlay"]

_COLOURS = "RdBu_r"
_STRONGEST_ALPHA = 0.65
_BACKGROUND = "#101214"
_INK = "#e8e6e3"
_WARNING = "#ffb454"
# Neither red nor blue, and no grey of a film.
_BOX = "#b8f04a"
# Under every line, so that it stands out on bone as on lung.
_HALO = "#000000"
_PANEL_INCHES = 5.2
_BAR_INCHES = 1.1
_BAR_AT_LEAST_INCHES = 1.6
_FOOTER_INCHES = 0.42
_LINE_INCHES = 0.25
# Height over width under which the two panels are put one above the other.
_STACKED_BELOW = 0.6
_DPI = 150
# At most so many isolines, with their values; fewer and without where the model sees a small part of a long film.
_ISOLINES, _FEW_ISOLINES = 6, 3
_SMALL_INCHES = 2.5
# The ends of the scale are too dark for lines on a dark film: lines take their colours from its middle.
_LIGHTER = 1.6
# Isolines are drawn on a grid so many times as fine as the patches, which makes curves of their polygons.
_FINER = 8


def draw_overlay(
    picture: Image.Image,
    grounding: Grounding,
    phrase: str,
    out: Path,
    *,
    boxes: Sequence[Box] = (),
    scores: GroundingScores | None = None,
    note: str = "",
    replace: bool = True,
) -> None:
    """Write what `render_overlay` draws.

    Args:
        picture: as for `render_overlay`, and so are grounding, phrase, boxes, scores and note.
        grounding: see there.
        phrase: see there.
        out: the .png file to write; it appears whole or not at all.
        boxes: see there.
        scores: see there.
        note: see there.
        replace: see `runtime.files.whole_file.whole_files`.

    Raises:
        InputError: `out` cannot be replaced, or is the file that the radiograph was opened from.
        MissingExtraError: matplotlib is not installed.
    """
    png = render_overlay(picture, grounding, phrase, boxes=boxes, scores=scores, note=note)
    check_destinations({"the overlay": out}, filter(None, [getattr(picture, "filename", None)]), force=True)
    with whole_file(out, replace) as partial:
        partial.write_bytes(png)


def render_overlay(
    picture: Image.Image,
    grounding: Grounding,
    phrase: str,
    *,
    boxes: Sequence[Box] = (),
    scores: GroundingScores | None = None,
    note: str = "",
) -> bytes:
    """A picture: the radiograph under lines of equal similarity, and beside it under the map as a heat map.

    Red is similar, blue is dissimilar, and what is neither leaves the film visible: the opacity follows the strength.
    The scale is symmetric around 0 and reaches to the strongest value; the dashed square is what the model sees.

    Args:
        picture: the radiograph, mode "L", or a picture in colours, mode "RGB"; right way up.
        grounding: map, score and crop, of the same size as the radiograph; see `Engine.ground`.
        phrase: the text.
        boxes: where the phrase should be found, in pixels of the radiograph.
        scores: how well the map agrees with the boxes.
        note: a line below the picture.

    Returns:
        A PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        matplotlib = import_private("matplotlib")
    except ImportError:
        raise MissingExtraError("Drawing the overlay", "matplotlib", "plot") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    film = np.asarray(picture)
    height, width = film.shape[:2]
    limit = _limit(grounding.similarity_map)

    # Wide films are stacked; very long ones get margins instead of a picture without end.
    aspect = float(np.clip(height / width, 0.1, 2.0))
    stacked = aspect < _STACKED_BELOW
    panel_width = 2 * _PANEL_INCHES if stacked else _PANEL_INCHES
    picture_height = panel_width * aspect * (2 if stacked else 1) + (0.15 if stacked else 0)
    lines = _wrap(phrase)
    header = 0.62 + _LINE_INCHES * len(lines)
    total = picture_height + header + _FOOTER_INCHES
    figure = Figure(figsize=(2 * _PANEL_INCHES + _BAR_INCHES, total), dpi=_DPI, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    rows, columns = (2, 1) if stacked else (1, 2)
    grid = figure.add_gridspec(
        rows, columns, left=0.02, right=0.90, wspace=0.03, hspace=0.05, bottom=_FOOTER_INCHES / total,
        top=1 - header / total,
    )  # fmt: skip
    panels = [figure.add_subplot(grid[panel // columns, panel % columns]) for panel in range(2)]
    for axes in panels:
        axes.imshow(film, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        axes.set_axis_off()
        axes.autoscale(False)
    _draw_isolines(panels[0], grounding, limit, grounding.crop.width / width * panel_width)
    strength = np.nan_to_num(np.abs(grounding.similarity_map) / limit)
    shown = panels[1].imshow(
        grounding.similarity_map,
        cmap=_COLOURS,
        vmin=-limit,
        vmax=limit,
        alpha=_STRONGEST_ALPHA * np.clip(strength, 0, 1),
    )
    for axes in panels:
        _draw_box(axes, grounding.crop, _INK, 0.8, linestyle="--", alpha=0.7)
        for box in boxes:
            _draw_box(axes, box, _BOX, 1.6)

        axes.apply_aspect()  # where the film will be, which the bar stands beside
    top, bottom = panels[0].get_position().y1, panels[1].get_position().y0
    bar_height = max(_BAR_AT_LEAST_INCHES / total, top - bottom)
    bar_axes = figure.add_axes((0.915, (top + bottom - bar_height) / 2, 0.012, bar_height))
    bar = figure.colorbar(matplotlib.cm.ScalarMappable(shown.norm, shown.cmap), cax=bar_axes)
    bar.set_label("cosine of patch and phrase", color=_INK, fontsize=9)
    bar.outline.set_edgecolor(_INK)
    bar.ax.tick_params(colors=_INK, labelsize=8)

    def write(line: str, inches_from_top: float, size: float, colour: str = _INK, left: float = 0.02) -> Any:
        at = 1 - inches_from_top / total
        return figure.text(left, at, line, color=colour, fontsize=size, va="center", parse_math=False)

    for index, line in enumerate(lines):
        write(line, 0.28 + _LINE_INCHES * index, 13)
    write(_summary(grounding, scores), 0.33 + _LINE_INCHES * len(lines), 10)
    write(note, total - 0.2, 8.5, _WARNING)
    key = "dashed: what the model sees" + ("   ·   green: annotated" if boxes else "")
    write(key, total - 0.2, 8.5).set(x=0.90, ha="right", alpha=0.8)
    with warnings.catch_warnings():
        # Characters that the font lacks are drawn as boxes; matplotlib would say so with a line of its source for each.
        warnings.filterwarnings("ignore", message="Glyph")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", facecolor=_BACKGROUND, metadata={"Software": GENERATOR})
        return stream.getvalue()


def _limit(similarity_map: NDArray[np.float32]) -> float:
    """End of the colour scale: rounded up to a tick, so that two pictures of similar strength share a scale."""
    inside = np.isfinite(similarity_map)
    strongest = float(np.abs(similarity_map[inside]).max()) if inside.any() else 1.0
    return min(1.0, max(0.05, float(np.ceil(strongest * 20) / 20)))


def _draw_isolines(axes: Any, grounding: Grounding, limit: float, inches: float) -> None:
    """Lines of equal similarity between the centres of the patches, in a square of that size on paper."""
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator

    rows, columns = grounding.patches.shape
    finer = Image.fromarray(grounding.patches).resize((columns * _FINER, rows * _FINER), Image.Resampling.BICUBIC)
    values = np.asarray(finer)
    ticks = MaxNLocator(_ISOLINES if inches > _SMALL_INCHES else _FEW_ISOLINES).tick_values(
        float(values.min()), float(values.max())
    )
    levels = [tick for tick in ticks if values.min() < tick < values.max()]
    if not levels:
        return
    crop = grounding.crop
    x, y = (
        start - 0.5 + (np.arange(count) + 0.5) * length / count
        for start, length, count in ((crop.x, crop.width, values.shape[1]), (crop.y, crop.height, values.shape[0]))
    )
    scale = {"cmap": _COLOURS, "vmin": -_LIGHTER * limit, "vmax": _LIGHTER * limit}
    lines = axes.contour(x, y, values, levels=levels, linewidths=1.3, **scale)
    halo = [withStroke(linewidth=2.6, foreground=_HALO, alpha=0.55)]
    lines.set(path_effects=halo)
    if inches > _SMALL_INCHES:
        # As many decimals as tell them apart: 0.204 and 0.208 must not both be 0.2.
        decimals = next(count for count in range(10) if np.allclose(np.round(levels, count), levels, rtol=0, atol=1e-9))
        written = {level: f"{level:+.{decimals}f}".replace("-", "−") if abs(level) > 1e-9 else "0" for level in levels}
        for label in axes.clabel(lines, fontsize=8.5, fmt=written):
            label.set(path_effects=halo)


def _draw_box(axes: Any, box: Box, colour: str, width: float, **options: Any) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=width + 1.2, foreground=_HALO, alpha=0.55)]
    # A pixel's centre, not its corner, has whole coordinates here.
    corner = (box.x - 0.5, box.y - 0.5)
    axes.add_patch(
        Rectangle(
            corner, box.width, box.height, fill=False, edgecolor=colour, linewidth=width, path_effects=halo, **options
        )
    )


def _summary(grounding: Grounding, scores: GroundingScores | None) -> str:
    found = [f"image–text similarity {grounding.score:+.3f}"]
    if scores and np.isnan(scores.pointing):
        found.append("the boxes lie outside what the model sees")
    elif scores:
        found += [f"CNR {scores.cnr:+.2f}", f"mIoU {scores.miou:.2f}", f"pointing game {scores.pointing:.0%}"]
    return "   ·   ".join(found)


def _wrap(phrase: str) -> list[str]:
    """The phrase in quotes, on at most two lines."""
    text = f"“{' '.join(phrase.split())}”"
    return textwrap.wrap(text, width=100, max_lines=2, placeholder=" …”") or ["“”"]
