"""One drawing for light and dark: matplotlib draws in marker colours, which become CSS variables in the SVG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from runtime.files.replaceable import COMMENT
from runtime.process import import_private

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "FONTS", "Colour", "drawing", "inline_svg", "marker", "name_colour", "svg_file", "variables"]

FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True)
class Colour:
    """What a colour is for, in both schemes.

    Attributes:
        drawn: what matplotlib is told; stands for the name and is never seen.
        light: on white.
        dark: on black.
    """

    drawn: str
    light: str
    dark: str


# Blue and vermillion as in Okabe and Ito's palette: told apart with every kind of colour vision, and by their shade.
# No drawn colour is black: matplotlib writes none where it is black.
COLOURS: Mapping[str, Colour] = MappingProxyType(
    {
        "paper": Colour("#010a01", "#ffffff", "#15181d"),
        "ink": Colour("#010a02", "#1c2127", "#e7eaee"),
        "muted": Colour("#010a03", "#59636e", "#a2acb7"),
        "line": Colour("#010a04", "#e1e5ea", "#343b44"),
        "engine": Colour("#010a05", "#0072b2", "#56b4e9"),
        "option": Colour("#010a08", "#79b4d8", "#2b6a92"),
        "reference": Colour("#010a06", "#c04b0b", "#f4945f"),
        "peer": Colour("#010a07", "#8f99a4", "#7b8794"),
    }
)
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: what is measured is the same everywhere
    "font.size": 12,
    "svg.fonttype": "none",
    "axes.linewidth": 1,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.parse_math": False,  # a label may hold dollars
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
# matplotlib's own style sheet would hold for the whole page that the drawing is put into.
_LINES = 'stroke-linejoin="round" stroke-linecap="butt"'


def marker(name: str) -> str:
    """What matplotlib is told for one of `COLOURS`."""
    return COLOURS[name].drawn


def name_colour(kind: str) -> str:
    """What a contestant's name is written in: bars may be pale, letters may not."""
    return marker(kind if kind in ("engine", "reference") else "ink")


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Settings of a figure, whatever the user's matplotlibrc says.

    Args:
        name: of the figure; what identifiers are made from, so that the same data give the same file.
    """
    matplotlib = import_private("matplotlib")
    colours = {
        "text.color": marker("ink"),
        "axes.labelcolor": marker("muted"),
        "axes.edgecolor": marker("line"),
        "xtick.color": marker("muted"),
        "ytick.color": marker("muted"),
        "grid.color": marker("line"),
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, **colours, "svg.hashsalt": name})
        # The browser has the letters that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """An <svg> element for a page that has `variables`.

    Args:
        figure: drawn within `drawing`.
        name: unique in the page; every identifier begins with it.
        label: for those who cannot see it.
    """
    raw = io.StringIO()
    figure.savefig(raw, format="svg", transparent=True, metadata=_NO_METADATA)
    svg = raw.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r"font: ((?:\w+ )*[\d.]+px) [^;\"]+", r"font: \1 var(--font)", svg)
    svg = re.sub(r"font-family: [^;\"]+", "font-family: var(--font)", svg)
    for colour, shades in COLOURS.items():
        svg = svg.replace(shades.drawn, f"var(--{colour})")
    width, height = (round(inches * 72) for inches in figure.get_size_inches())
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" {_LINES}'
    head += f' aria-label="{_attribute(label)}" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    return re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1).strip()


def svg_file(inline: str) -> str:
    """The same as a file of its own, which follows its reader's scheme."""
    style = f"<style>{variables('svg')} svg {{ background: var(--paper) }}</style>"
    end = inline.index(">") + 1
    return f'<?xml version="1.0" encoding="utf-8"?>\n{inline[:end]}\n{COMMENT}\n{style}{inline[end:]}\n'


def variables(selector: str = ":root") -> str:
    """The style sheet of both schemes."""
    light = "; ".join(f"--{name}: {each.light}" for name, each in COLOURS.items())
    dark = "; ".join(f"--{name}: {each.dark}" for name, each in COLOURS.items())
    common = f"--font: {FONTS}; color-scheme: light dark"
    # Paper is white, whatever its reader's screen is.
    scheme = "@media screen and (prefers-color-scheme: dark)"
    return f"{selector} {{ {light}; {common} }} {scheme} {{ {selector} {{ {dark} }} }}"


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
