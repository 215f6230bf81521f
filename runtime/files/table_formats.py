"""The formats of tables: how the columns and rows of each are read. `runtime.files.tables` is what reads tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from runtime.files.csv_records import read_records
from runtime.files.json_text import JsonObject, parse_row
from runtime.files.parquet_rows import parquet_columns, parquet_count, parquet_rows
from runtime.files.text_files import open_text
from runtime.process.wording import counted

__all__ = ["TABLES", "Row", "Table", "Unusable"]


@dataclass(frozen=True)
class Unusable:
    """Stands where an item, a row or a cell should be; the encoders never see it."""

    reason: str


Row: TypeAlias = "dict[str, Any] | Unusable"


@dataclass(frozen=True)
class Table:
    """How to read one format.

    Attributes:
        columns: names of the columns, as often as they are there; None where no row says it. Of JSON lines the first
            object speaks for all: a misspelt column should not come out as a million bad rows.
        rows: path and wanted columns → number (of the line for JSON lines, else of the record without a header; from 1)
            and content of each row; a row of JSON lines may lack columns. Called by `read_rows`.
        count: number of rows, at the cost of reading the file once at most.

    All of them raise OSError or ValueError for what cannot be read; the message is the reason.
    """

    columns: Callable[[Path], list[str] | None]
    rows: Callable[[Path, Sequence[str]], Iterator[tuple[int, Row]]]
    count: Callable[[Path], int]


def _csv_columns(path: Path) -> list[str] | None:
    with open_text(path, newline="") as lines:
        return next((record.fields for record in read_records(lines)), None)


def _csv_rows(path: Path, _wanted: Sequence[str]) -> Iterator[tuple[int, Row]]:
    with open_text(path, newline="") as lines:
        records = read_records(lines)
        header = next((record.fields for record in records), [])
        for number, (line, fields) in enumerate(records, 1):
            if len(fields) == len(header):
                yield number, dict(zip(header, fields, strict=True))
            else:
                held = "comma" if len(fields) > len(header) else "line break"
                wrong = f"has {counted(len(fields), 'field')} where the header has {len(header)} (line {line})"
                yield number, Unusable(f"{wrong}. A text with a {held} in it needs quotes around it")


def _csv_count(path: Path) -> int:
    """A record may hold line breaks, so lines do not count it."""
    with open_text(path, newline="") as lines:
        return max(sum(1 for _ in read_records(lines, hold=False)) - 1, 0)


def _jsonl_lines(path: Path) -> Iterator[tuple[int, str]]:
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip(" \t\n"):
                yield number, line


def _jsonl_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, Row]]:
    for number, line in _jsonl_lines(path):
        try:
            row = parse_row(line)
        except ValueError as error:
            yield number, Unusable(f"line {number} is not valid JSON ({error})")
            continue
        if not isinstance(row, JsonObject):
            yield number, Unusable(f"line {number} is not a JSON object")
        elif twice := [name for name in wanted if name in row.twice]:
            yield number, Unusable(f"line {number} has '{twice[0]}' more than once")
        else:
            yield number, row


def _jsonl_columns(path: Path) -> list[str] | None:
    return next((list(row) for _, row in _jsonl_rows(path, ()) if not isinstance(row, Unusable)), None)


def _jsonl_count(path: Path) -> int:
    return sum(1 for _ in _jsonl_lines(path))


TABLES = {
    ".csv": Table(_csv_columns, _csv_rows, _csv_count),
    ".jsonl": Table(_jsonl_columns, _jsonl_rows, _jsonl_count),
    ".parquet": Table(parquet_columns, parquet_rows, parquet_count),
}
