"""`python -m bench quality compare`: several systems' results of one task as one table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bench.quality.comparison.published import PUBLISHED, data_sets
from bench.quality.comparison.tables import Comparison, Row, Value, compare, read_reports
from runtime.archive import check_output
from runtime.commands.arguments import add_force, add_json
from runtime.files import check_destinations
from runtime.files.replaceable import COMMENT
from runtime.files.whole_file import whole_file
from runtime.process import print_json, print_result, report_written

__all__ = ["NAME", "SUMMARY", "add_options", "markdown", "run"]

NAME = "compare"
SUMMARY = "Several systems' results of one task side by side, with published figures beside them."

_NOTHING = "–"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "reports", type=Path, nargs="+", metavar="REPORT.json", help="what the commands of quality print with --json"
    )
    sets = "; ".join(f"{task}: {', '.join(data_sets(task))}" for task in PUBLISHED)
    parser.add_argument(
        "--published",
        default="auto",
        metavar="DATA",
        help=f"cite what papers published of a data set ({sets}), or none (auto: that of the task, where it has one)",
    )
    parser.add_argument("--out", type=Path, metavar="TABLE.md", help="write the table as Markdown as well")
    add_force(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    if options.out:
        check_output(options.out, (".md",))
        check_destinations({"--out": options.out}, map(str, options.reports), force=options.force)
    found = compare(read_reports(options.reports), [str(path) for path in options.reports], options.published)
    if options.out:
        with whole_file(options.out, options.force) as partial:
            partial.write_text(markdown(found), encoding="utf-8")
    if options.json:
        print_json(_described(found))
        return
    _print(found)
    if options.out:
        report_written(f"table → {options.out}")


def markdown(found: Comparison) -> str:
    """The table in GitHub's Markdown; the best measured value of a column in bold."""
    titles = ["system", *(column.title for column in found.columns), "source"]
    lines = [
        COMMENT,
        "",
        f"**{found.task}**",
        "",
        f"| {' | '.join(map(_escaped, titles))} |",
        f"|---|{'---:|' * len(found.columns)}---|",
    ]
    for row in found.rows:
        cells = []
        for number, value in enumerate(row.values):
            text = _shown(value, found.columns[number].form)
            best = row.measured and value.value is not None and value.value == found.best(number)
            cells.append(f"**{text}**" if best else text)
        lines.append(f"| {' | '.join([_escaped(row.system), *cells, _escaped(_source(row))])} |")
    return "\n".join([*lines, "", *(f"{_escaped(note)}  " for note in found.notes)]).rstrip() + "\n"


def _described(found: Comparison) -> dict[str, object]:
    rows = [
        {
            "system": row.system,
            "source": row.source,
            "measured": row.measured,
            "figures": {column.title: asdict(value) for column, value in zip(found.columns, row.values, strict=True)},
        }
        for row in found.rows
    ]
    return {"task": found.task, "rows": rows, "notes": list(found.notes)}


def _print(found: Comparison) -> None:
    print_result(found.task)
    titles = [column.title for column in found.columns]
    table = [["system", *titles, "source"]]
    for row in found.rows:
        values = [_shown(value, column.form) for value, column in zip(row.values, found.columns, strict=True)]
        table.append([row.system, *values, _source(row)])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print_result("  ".join(_aligned(line, widths)).rstrip())
    for note in found.notes:
        print_result(note)


def _aligned(line: list[str], widths: list[int]) -> Iterator[str]:
    last = len(line) - 1
    for number, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield cell.ljust(width) if number in (0, last) else cell.rjust(width)


def _source(row: Row) -> str:
    return row.source if row.measured else f"published: {row.source}"


def _shown(value: Value, form: str) -> str:
    if value.value is None:
        return _NOTHING
    ends = "" if value.low is None or value.high is None else f" ({value.low:{form}}–{value.high:{form}})"
    return f"{value.value:{form}}{ends}"


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\`*_[]|~$<" else letter for letter in text)
