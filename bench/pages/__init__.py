"""The report for people: a page that needs nothing else, the same in Markdown, and the plots as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.measure import PeerError
from bench.pages.content import content
from bench.pages.headline_table import headline_table
from bench.pages.html import html
from bench.pages.markdown import markdown, markdown_table
from bench.pages.plots import PLOTS, draw_plots
from bench.pages.theme import svg_file
from bench.record import Report

__all__ = ["headline_table", "markdown_table", "write_pages"]

_MISSING = "{} is not installed, and the report's pages need it. Install it with: pip install 'cxr-engine[bench]'"


def write_pages(report: Report, folder: Path) -> list[Path]:
    """Write report.html, report.md and plots/*.svg; the same report gives the same bytes.

    Args:
        report: what was measured.
        folder: is made if it is missing. Files of an earlier report are replaced, its plots deleted.

    Returns:
        What was written, the page first.

    Raises:
        PeerError: matplotlib or jinja2 is not installed.
        OSError: a file cannot be written.
    """
    try:
        files = dict(_files(report))
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "matplotlib"):
            raise
        raise PeerError(_MISSING.format(error.name)) from None
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for plot in PLOTS:
        if (name := f"plots/{plot.name}.svg") not in files:
            (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        beside = folder / f"{name}.part"
        beside.write_text(text, encoding="utf-8")
        beside.replace(folder / name)
    return [folder / name for name in files]


def _files(report: Report) -> Iterator[tuple[str, str]]:
    plots = draw_plots(report)
    found = content(report, plots)
    yield "report.html", html(found)
    yield "report.md", markdown(found)
    for each in plots:
        if each.svg:
            yield f"plots/{each.plot.name}.svg", svg_file(each.svg)
