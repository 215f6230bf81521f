"""The report for readers of Markdown: the same tables, and links to the plots' files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bench.pages.content import Content
from bench.pages.formats import NOTHING, shortened
from bench.pages.table import Cell, Line, Table
from runtime.files.replaceable import COMMENT

__all__ = ["markdown", "markdown_table"]

# A log of a crashed process has many lines; all of them are in report.json and in report.html.
_LONGEST = 300


def markdown(content: Content) -> str:
    """A whole document; whatever labels and reasons hold is text in it, never markup."""
    return "\n".join(_lines(content)).rstrip() + f"\n\n{COMMENT}\n"


def _lines(content: Content) -> Iterator[str]:
    yield from (f"# {_escaped(content.title)}", "", _escaped(content.subtitle), "")
    for title, text in content.warnings:
        yield from (f"> **{_escaped(title)}** {_escaped(text)}", "")
    if content.goals:
        yield from (f"## {content.goals.title}", "", markdown_table(content.goals))
    yield from (f"## {content.headlines.title}", "")
    if content.headlines.lines:
        yield markdown_table(content.headlines)
    else:
        yield from ("None of the first questions was measured.", "")
    yield from ("## Plots", "")
    for each in content.plots:
        yield from (f"### {each.plot.title}", "")
        if each.svg:
            yield from (f"![{each.plot.title}](plots/{each.plot.name}.svg)", "", each.plot.caption, "")
        else:
            yield from (f"Left out: {_escaped(each.missing)}.", "")
    yield from ("## Every case", "")
    yield from _tables(table for table, _ in content.cases)
    yield from _tables(each for each in (content.loadgen, content.manners) if each)
    yield from ("## How it was measured", "")
    for title, text in content.method:
        yield from (f"**{title}** {text}", "")
    yield from _tables([content.contestants])
    fence = "`" * (max((len(run) for run in re.findall("`+", content.command)), default=0) + 3)
    yield from ("To repeat it:", "", f"{fence}sh", content.command, fence, "")
    yield from _tables(content.facts)


def _tables(tables: Iterable[Table]) -> Iterator[str]:
    for table in tables:
        yield from (f"### {_escaped(table.title)}", "", markdown_table(table))


def markdown_table(table: Table) -> str:
    """A table in GitHub's Markdown with its note, as in the report."""
    lines = [
        f"| {' | '.join(_escaped(column.title) for column in table.columns)} |",
        f"|{'|'.join('---:' if column.number else '---' for column in table.columns)}|",
        *(f"| {' | '.join(_row(line, len(table.columns)))} |" for line in table.lines),
        "",
    ]
    return "\n".join([*lines, _escaped(table.note), ""] if table.note else lines)


def _row(line: Line, columns: int) -> list[str]:
    """What stands for many columns is told below the first, which has the room."""
    shown = [_cell(cell) for cell in line.cells if not cell.rest]
    shown[0] = "<br>".join([shown[0], *(_cell(cell) for cell in line.cells if cell.rest)])
    return shown + [NOTHING] * (columns - len(shown))


def _cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    parts = [f"**{text}**" if cell.strong and text else text, f"*{cell.tag}*" if cell.tag else "", _escaped(cell.small)]
    return "<br>".join(part for part in (parts[0], ": ".join(each for each in parts[1:] if each)) if part)


def _escaped(text: str) -> str:
    line = shortened(text, _LONGEST)
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)
