"""CSV, JSON lines, Parquet and plain lines → items, one after the other: a table is never held as a whole.

What spoils one row (a line that is no JSON, bytes that are no UTF-8) spoils that row only and comes out as `Unusable`;
what leaves the rest of the file unreadable (a quote that never closes) raises.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

from runtime.console import standard_input
from runtime.errors import MissingExtraError

__all__ = ["TABLES", "Columns", "Item", "Table", "Unusable", "count_lines", "read_lines", "read_stdin", "read_table"]

_PARQUET_BATCH = 1024
# Bytes that are no UTF-8 are kept as these by the error handler "surrogateescape".
_ESCAPED = re.compile("[\udc80-\udcff]")
_NOT_UTF8 = "is not UTF-8. Save the file as UTF-8"


class Item(NamedTuple):
    """One thing to embed.

    Attributes:
        id: the image's path as given, or the row's id, or "file:number" with the number of the line (.txt, .jsonl) or
            record (.csv without its header, .parquet), from 1.
        value: a text, or the path of an image, or `Unusable`; what a row holds instead of a text is kept for the
            encoder to refuse.
    """

    id: str
    value: Any


@dataclass(frozen=True)
class Columns:
    """Which columns of .csv, .jsonl and .parquet files to read.

    Attributes:
        text: column of texts; ignored if `image` is given.
        image: column of paths of images, relative to the table's folder.
        id: column of ids; None takes the path of an image as the table has it, and numbers the rows of texts.
    """

    text: str = "text"
    image: str | None = None
    id: str | None = None

    @property
    def wanted(self) -> list[str]:
        """The columns to read, each once."""
        return list(dict.fromkeys(name for name in (self.image or self.text, self.id) if name is not None))


@dataclass(frozen=True)
class Unusable:
    """Stands where an item should be; the encoders never see it."""

    reason: str


Row: TypeAlias = "dict[Any, Any] | Unusable"


@dataclass(frozen=True)
class Table:
    """How to read one format.

    Attributes:
        rows: path and wanted columns → number (of the line for JSON lines, else of the record without a header; from 1)
            and content of each row; a row may lack columns.
        check: raises ValueError where the columns are not there, before any row is read.
        count: number of rows, at the cost of reading the file once at most.

    All of them raise OSError or ValueError for what cannot be read; the message is the reason.
    """

    rows: Callable[[Path, Sequence[str]], Iterator[tuple[int, Row]]]
    check: Callable[[Path, Sequence[str]], None]
    count: Callable[[Path], int]


def count_lines(path: Path, blank: bool = True) -> int:
    """Lines of a file, with or without the blank ones."""
    with path.open("rb") as stream:
        return sum(1 for line in stream if blank or line.strip())


def _lacks(name: str, there: Iterable[Any]) -> ValueError:
    return ValueError(f"has no column '{name}'; it has: {', '.join(map(str, there))}")


def _csv_rows(path: Path, _wanted: Sequence[str]) -> Iterator[tuple[int, Row]]:
    with _open_text(path, newline="") as stream:
        reader = csv.DictReader(stream)
        try:
            for number, row in enumerate(reader, 1):
                yield number, dict(row)
        except csv.Error as error:
            raise ValueError(f"is not valid CSV near line {reader.line_num} ({error}). Check its quotes") from None


def _csv_check(path: Path, wanted: Sequence[str]) -> None:
    with _open_text(path, newline="") as stream:
        try:
            there = csv.DictReader(stream).fieldnames
        except csv.Error as error:
            raise ValueError(f"is not valid CSV in its header ({error}). Check its quotes") from None
    for name in wanted:
        if there and name not in there:
            raise _lacks(name, there)


def _csv_count(path: Path) -> int:
    """A record may hold line breaks, so lines do not count it; the parser takes seconds for a gigabyte."""
    return sum(1 for _ in _csv_rows(path, ()))


def _jsonl_rows(path: Path, _wanted: Sequence[str]) -> Iterator[tuple[int, Row]]:
    with _open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, _json_row(number, line)


def _json_row(number: int, line: str) -> Row:
    if _ESCAPED.search(line):
        return Unusable(_NOT_UTF8)
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Unusable(f"line {number} is not valid JSON ({error})")
    return row if isinstance(row, dict) else Unusable(f"line {number} is not a JSON object")


def _jsonl_check(path: Path, wanted: Sequence[str]) -> None:
    """The first object speaks for all: a misspelt column should not come out as a million bad rows."""
    first = next((row for _, row in _jsonl_rows(path, wanted) if isinstance(row, dict)), None)
    for name in wanted:
        if first is not None and name not in first:
            raise _lacks(name, first)


def _parquet_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Only the wanted columns are read: tables of reports often carry their images along."""
    pyarrow = _pyarrow(path)
    with path.open("rb") as stream:
        try:
            file = pyarrow.parquet.ParquetFile(stream)
            number = 0
            for batch in file.iter_batches(_PARQUET_BATCH, columns=list(wanted)):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError) as error:  # either may come of broken content
            raise ValueError(f"is not valid Parquet ({error}). Write it again") from None


def _parquet_check(path: Path, wanted: Sequence[str]) -> None:
    names = _parquet_footer(path).schema.to_arrow_schema().names
    for name in wanted:
        if name not in names:
            raise _lacks(name, names)


def _parquet_count(path: Path) -> int:
    return int(_parquet_footer(path).num_rows)


def _parquet_footer(path: Path) -> Any:
    pyarrow = _pyarrow(path)
    with path.open("rb") as stream:
        try:
            return pyarrow.parquet.read_metadata(stream)
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"is not valid Parquet ({error}). Write it again") from None


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(f"Reading {path}", "pyarrow", "parquet") from None
    return pyarrow


TABLES = {
    ".csv": Table(_csv_rows, _csv_check, _csv_count),
    ".jsonl": Table(_jsonl_rows, _jsonl_check, lambda path: count_lines(path, blank=False)),
    ".parquet": Table(_parquet_rows, _parquet_check, _parquet_count),
}


def _numbered(name: str, stream: Iterable[str]) -> Iterator[Item]:
    for number, line in enumerate(stream, 1):
        yield Item(f"{name}:{number}", _check_unicode(line.rstrip("\n")))


def _check_unicode(text: Any) -> Any:
    """The text itself, or Unusable where the file held bytes that are no UTF-8; other types pass."""
    return Unusable(_NOT_UTF8) if isinstance(text, str) and _ESCAPED.search(text) else text


def _open_text(path: Path, newline: str | None = None) -> IO[str]:
    """Open a UTF-8 file such that one bad byte spoils one row and not the file."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def read_lines(path: Path) -> Iterator[Item]:
    """The lines of a text file, numbered from 1."""
    with _open_text(path) as stream:
        yield from _numbered(str(path), stream)


def read_stdin() -> Iterator[Item]:
    """The lines of standard input, which is left open."""
    stream = io.TextIOWrapper(standard_input(), encoding="utf-8-sig", errors="surrogateescape")
    try:
        yield from _numbered("-", stream)
    finally:
        stream.detach()  # or standard input would be closed with it


def read_table(path: Path, columns: Columns) -> Iterator[Item]:
    """The texts or images of a table, see `Columns`; raises as `Table` does."""
    column = columns.image or columns.text
    wanted = columns.wanted
    for number, row in TABLES[path.suffix.lower()].rows(path, wanted):
        identity = f"{path}:{number}"
        if isinstance(row, Unusable):
            yield Item(identity, row)
            continue
        missing = [name for name in wanted if name not in row]
        if missing:
            reason = f"row {number} has no column '{missing[0]}'; it has: {', '.join(map(str, row))}"
            yield Item(identity, Unusable(reason))
            continue
        value = _check_unicode(row[column])
        if columns.image is not None:
            value = _image_path(path, number, column, value)
            if columns.id is None and not isinstance(value, Unusable):
                identity = row[column]
        if columns.id is not None:
            if row[columns.id] is None or row[columns.id] == "":
                value = Unusable(f"row {number} has no id in column '{columns.id}'")
            else:
                identity = str(row[columns.id])
        yield Item(identity, value)


def _image_path(table: Path, number: int, column: str, value: Any) -> Any:
    if isinstance(value, Unusable):
        return value
    if not isinstance(value, str) or not value:
        return Unusable(f"row {number} has no path of an image in column '{column}'")
    return str(table.parent / value)
