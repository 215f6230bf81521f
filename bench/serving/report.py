"""The record of a run: serve.json with raw samples, the same tables as serve.md and serve.html."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.pages import markdown_table
from bench.pages.table import Cell, Column, Line, Table
from bench.pages.theme import variables
from bench.serving.published import PUBLISHED
from bench.serving.result import MEASURED, Result
from runtime.files.replaceable import COMMENT, HTML_META
from runtime.files.whole_file import whole_files

__all__ = ["NAMES", "ServeReport", "tables", "write_report"]

_VERSION = 1
NAMES = ("serve.json", "serve.md", "serve.html")
_TITLE = "The server, measured"
_STYLE = """body { font: 16px/1.5 var(--font); color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem } table { border-collapse: collapse; width: 100%; font-size: 0.9rem }
th, td { text-align: left; padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line); vertical-align: top }
pre { white-space: pre-wrap; overflow-wrap: anywhere }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.note, small { color: var(--muted) }
.bad { color: var(--reference); font-weight: 600 } .good { color: var(--engine) } .wide { overflow-x: auto }"""


@dataclass(frozen=True)
class ServeReport:
    """Everything about a run.

    Attributes:
        created: time in UTC, ISO 8601.
        command: that repeats it.
        machine: what a reader has to know of it.
        versions: of what took part.
        settings: provider, precision, threads, seconds …
        results: of the scenarios.
    """

    created: str
    command: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    results: Sequence[Result] = field(default_factory=list)


def write_report(report: ServeReport, folder: Path, replace: bool) -> list[Path]:
    """Write serve.json, serve.md and serve.html, all or none.

    Args:
        report: of a run.
        folder: is made if it is missing.
        replace: files of others are replaced as well; see `runtime.files.whole_file.whole_files`.

    Raises:
        InputError: a file is in the way.
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"schema_version": _VERSION, **asdict(report), "published": [asdict(each) for each in PUBLISHED]}
    texts = (
        json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        _markdown(report),
        _html(report),
    )
    files = [folder / name for name in NAMES]
    with whole_files(files, replace) as partials:
        for partial, text in zip(partials, texts, strict=True):
            partial.write_text(text, encoding="utf-8")
    return files


def tables(report: ServeReport) -> Iterator[Table]:
    """The tables of a report."""
    yield _figures("figures", "Figures", report.results)
    yield _facts("settings", "Settings", report.settings)
    yield _facts("machine", "Machine", report.machine)
    yield _facts("versions", "Versions", report.versions)
    columns = (Column("server"), Column("figure"), Column("where"), Column("source"))
    lines = [Line(tuple(map(Cell, (each.server, each.figure, each.machine, each.source)))) for each in PUBLISHED]
    note = "For orientation: other machines, other models. None of it was measured in this run."
    yield Table("published", "Published by others", columns, tuple(lines), note)


def _figures(name: str, title: str, results: Sequence[Result]) -> Table:
    columns = (Column("scenario"), Column("figure"), Column("measured", True), Column("goal", True), Column("note"))
    lines = []
    for result in results:
        if result.status != MEASURED:
            lines.append(Line((Cell(result.scenario), Cell(f"{result.status}: {result.reason}", rest=True))))
        for number, figure in enumerate(result.figures):
            tone = {None: "", True: "good", False: "bad"}[figure.met]
            cells = (
                Cell("" if number else result.scenario),
                Cell(figure.what),
                Cell(figure.shown(), figure.value, tone=tone, tag="missed" if figure.met is False else ""),
                Cell(figure.shown_goal()),
                Cell(figure.note),
            )
            lines.append(Line(cells))
    return Table(name, title, columns, tuple(lines))


def _facts(name: str, title: str, facts: Mapping[str, Any]) -> Table:
    lines = tuple(Line((Cell(str(key)), Cell(str(value)))) for key, value in facts.items())
    return Table(name, title, (Column("what"), Column("value")), lines)


def _markdown(report: ServeReport) -> str:
    parts = [f"# {_TITLE}", "", f"Measured {report.created}.", ""]
    for table in tables(report):
        parts += [f"## {table.title}", "", markdown_table(table)]
    parts += ["To repeat it:", "", "```sh", report.command, "```", "", COMMENT]
    return "\n".join(parts) + "\n"


def _html(report: ServeReport) -> str:
    body = [f"<h1>{_TITLE}</h1>", f"<p>Measured {html.escape(report.created)}.</p>"]
    for table in tables(report):
        body.append(f'<h2>{html.escape(table.title)}</h2><div class="wide"><table><thead><tr>')
        body += [f"<th{_class(column)}>{html.escape(column.title)}</th>" for column in table.columns]
        body.append("</tr></thead><tbody>")
        for line in table.lines:
            body.append(f"<tr>{''.join(_cells(line, table.columns))}</tr>")
        body.append(f'</tbody></table></div><p class="note">{html.escape(table.note)}</p>')
    body.append(f"<p>To repeat it:</p><pre>{html.escape(report.command)}</pre>")
    head = f'<meta charset="utf-8">{HTML_META}<meta name="viewport" content="width=device-width">'
    style = f"<style>{variables()} {_STYLE}</style>"
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{_TITLE}</title>{style}</head>\n'
        f"<body>{''.join(body)}</body></html>\n"
    )


def _cells(line: Line, columns: Sequence[Column]) -> Iterator[str]:
    for cell, column in zip(line.cells, columns, strict=False):
        span = f' colspan="{len(columns) - len(line.cells) + 1}"' if cell.rest else ""
        tag = f' <small class="{cell.tone}">{html.escape(cell.tag)}</small>' if cell.tag else ""
        yield f"<td{_class(column)}{span}>{html.escape(cell.text)}{tag}</td>"


def _class(column: Column) -> str:
    return ' class="number"' if column.number else ""


def _finite(value: Any) -> Any:
    """JSON has no NaN: None stands for what could not be measured."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
