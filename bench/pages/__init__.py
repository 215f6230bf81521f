"""The report for people: a page that needs nothing else, the same in Markdown, and the plots as files.

Imports `record` and `errors`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.errors import PeerError
from bench.pages.content import content
from bench.pages.headline_table import headline_table
from bench.pages.html import html
from bench.pages.markdown import markdown, markdown_table
from bench.pages.plots import PLOTS, draw_plots
from bench.pages.theme import svg_file
from bench.record import Report
from runtime.files.replaceable import wrote
from runtime.files.whole_file import whole_file

__all__ = ["headline_table", "markdown_table", "page_files", "write_pages"]

_MISSING = "{} is not installed, and the report's pages need it. Install it with: pip install 'cxr-engine[bench]'"


def page_files(folder: Path) -> dict[str, Path]:
    """All files that `write_pages` may write, by their names in the folder."""
    names = ["report.html", "report.md", *(f"plots/{plot.name}.svg" for plot in PLOTS)]
    return {name: folder / name for name in names}


def write_pages(report: Report, folder: Path, replace: bool = True) -> list[Path]:
    """Write report.html, report.md and plots/*.svg; the same report gives the same bytes.

    Args:
        report: what was measured.
        folder: is made if it is missing. Files of an earlier report are replaced, its plots deleted.
        replace: files of others are replaced as well; see `runtime.files.whole_file.whole_files`.

    Returns:
        What was written, the page first.

    Raises:
        PeerError: matplotlib or jinja2 is not installed.
        InputError: a file is in the way.
        OSError: a file cannot be written.
    """
    try:
        files = dict(_files(report))
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "matplotlib"):
            raise
        raise PeerError(_MISSING.format(error.name)) from None
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for name, file in page_files(folder).items():
        if name not in files and file.is_file() and wrote(file):
            file.unlink()
    for name, text in files.items():
        with whole_file(folder / name, replace) as partial:
            partial.write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def _files(report: Report) -> Iterator[tuple[str, str]]:
    plots = draw_plots(report)
    found = content(report, plots)
    yield "report.html", html(found)
    yield "report.md", markdown(found)
    for each in plots:
        if each.svg:
            yield f"plots/{each.plot.name}.svg", svg_file(each.svg)
