"""The one reader of tables: CSV, JSON lines, Parquet and plain lines → rows and items, one after the other.

Everything that reads a table of the user's reads it here, so that all give the same answers, and a table is never held
as a whole:

- what spoils one row spoils that row only and comes out as `Unusable` with the reason: too many or too few fields, a
  line that is no JSON, bytes that are no UTF-8 in a cell that is asked for;
- what leaves it open where rows begin and end, or which cell is meant, raises: a quote that never closes, a column
  that is missing or there twice, UTF-16;
- what is in columns that nobody asked for hurts nobody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from runtime.files.json_text import HugeNumber
from runtime.files.parquet_rows import Unreadable
from runtime.files.table_formats import TABLES, Row, Table, Unusable
from runtime.files.text_files import open_text, text_fault, text_stdin

__all__ = [
    "TABLES",
    "Columns",
    "Item",
    "Row",
    "Table",
    "Unusable",
    "check_columns",
    "count_lines",
    "parse_number",
    "read_lines",
    "read_rows",
    "read_stdin_lines",
    "read_table",
    "refuse_other_tables",
]


class Item(NamedTuple):
    """One thing to embed.

    Attributes:
        id: the image's path as given, or the row's id, or "file:number" with the number of the line (.txt, .jsonl) or
            record (.csv without its header, .parquet), from 1.
        value: a text, or the path of an image, or `Unusable`; what a row holds instead of a text is kept for the
            encoder to refuse.
        previous: path of the previous image, where there is one.
    """

    id: str
    value: Any
    previous: str | None = None


@dataclass(frozen=True)
class Columns:
    """Which columns of .csv, .jsonl and .parquet files to read.

    Attributes:
        text: column of texts; ignored if `image` is given.
        image: column of paths of images, relative to the table's folder.
        id: column of ids; None takes the path of an image as the table has it, and numbers the rows of texts.
        previous: column of paths of previous images, empty where there is none.
    """

    text: str = "text"
    image: str | None = None
    id: str | None = None
    previous: str | None = None

    @property
    def wanted(self) -> list[str]:
        """The columns to read, each once."""
        columns = (self.image or self.text, self.id, self.previous)
        return list(dict.fromkeys(name for name in columns if name is not None))


def check_columns(path: Path, wanted: Iterable[str], suffix: str | None = None) -> None:
    """Make sure, before any row is read, that each wanted column is there, and once; see `read_rows`.

    Raises:
        OSError: the file cannot be read.
        ValueError: a column is not there or there twice, or as `Table`; the message is the reason.
    """
    there = _table(path, suffix).columns(path)
    if there is None:
        return
    for name in wanted:
        if there.count(name) > 1:
            raise ValueError(f"has the column '{name}' {there.count(name)} times. Rename all but one")
        if name not in there:
            raise ValueError(f"has no column '{name}'; it has: {', '.join(there) or 'nothing'}{_hint(name, there)}")


def read_rows(path: Path, wanted: Sequence[str], suffix: str | None = None) -> Iterator[tuple[int, Row]]:
    """Read a table.

    Args:
        path: the file.
        wanted: the columns to read, checked by `check_columns`.
        suffix: one of `TABLES`: how to read it. None takes the file's own.

    Yields:
        Number and content of each row, see `Table.rows`. A cell of a wanted column that holds what is no text or
        number is `Unusable`; other types of values are kept. Other columns may be among it.

    Raises:
        OSError: the file cannot be read.
        ValueError: as `check_columns` and `Table`.
    """
    check_columns(path, wanted, suffix)
    for number, row in _table(path, suffix).rows(path, wanted):
        if not isinstance(row, Unusable):
            for name in wanted:
                fault = _cell_fault(row.get(name))
                if fault:
                    row[name] = Unusable(fault)
        yield number, row


def read_table(path: Path, columns: Columns) -> Iterator[Item]:
    """The texts or images of a table, see `Columns`; raises as `read_rows`."""
    column = columns.image or columns.text
    wanted = columns.wanted
    for number, row in read_rows(path, wanted):
        identity = f"{path}:{number}"
        if isinstance(row, Unusable):
            yield Item(identity, row)
            continue
        missing = [name for name in wanted if name not in row]
        if missing:
            reason = f"row {number} has no column '{missing[0]}'; it has: {', '.join(row)}"
            yield Item(identity, Unusable(reason))
            continue
        value, previous = row[column], None
        if columns.image is not None:
            value = _image_path(path, number, column, value)
            if columns.id is None and not isinstance(value, Unusable):
                identity = row[column]
        if columns.id is not None:
            found = _identity(row[columns.id], number, columns.id)
            if isinstance(found, str):
                identity = found
            else:
                value = found
        if columns.previous is not None and row[columns.previous] not in (None, ""):
            previous = _image_path(path, number, columns.previous, row[columns.previous])
            if isinstance(previous, Unusable):
                value, previous = previous, None
        yield Item(identity, value, previous)


def read_lines(path: Path) -> Iterator[Item]:
    """The lines of a text file, numbered from 1; raises OSError and ValueError as `Table` does."""
    with open_text(path) as lines:
        yield from _numbered(str(path), lines)


def read_stdin_lines() -> Iterator[Item]:
    """The lines of standard input, which is left open; raises as `read_lines`."""
    with text_stdin() as lines:
        yield from _numbered("-", lines)


def count_lines(path: Path) -> int:
    """Number of items of `read_lines`."""
    with open_text(path) as lines:
        return sum(1 for _ in lines)


def parse_number(text: str) -> float | None:
    """A number as files write it, NaN and infinite ones too; not Python's "1_000", nor digits of other scripts."""
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def refuse_other_tables(name: str) -> None:
    """Raise ValueError where a name's suffix is that of a table or text that is not read; the message says what is."""
    for suffix, advice in _OTHER_SUFFIXES.items():
        if name.lower().endswith(suffix) and not name.lower().endswith(".nii.gz"):
            raise ValueError(f"is a {suffix} file; of tables and texts .txt, {', '.join(TABLES)} are read. {advice}")


_OTHER_SUFFIXES = {
    **dict.fromkeys((".tsv", ".tab", ".xlsx", ".xls", ".ods"), "Save it as CSV, with commas"),
    **dict.fromkeys((".json", ".ndjson"), "If it has an object a line, call it .jsonl"),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".7z"), "Unpack it"),
    **dict.fromkeys((".feather", ".arrow", ".orc", ".avro"), "Save it as Parquet"),
}


def _table(path: Path, suffix: str | None) -> Table:
    return TABLES[path.suffix.lower() if suffix is None else suffix]


def _hint(name: str, there: Sequence[str]) -> str:
    delimiter = next((each for each in ";\t|" if len(there) == 1 and each in there[0]), None)
    if delimiter is not None:
        return f". Its columns are separated by {delimiter!r}, it seems: save it with commas"
    alike = [each for each in there if each.strip().casefold() == name.strip().casefold()]
    return f". Is '{alike[0]}' meant?" if alike else ""


def _cell_fault(value: Any) -> str | None:
    if isinstance(value, str):
        return text_fault(value)
    if isinstance(value, Unreadable):
        return value.reason
    return "holds a number of more digits than are read" if isinstance(value, HugeNumber) else None


def _numbered(name: str, lines: Iterable[str]) -> Iterator[Item]:
    for number, line in enumerate(lines, 1):
        text = line.removesuffix("\n")
        fault = text_fault(text)
        yield Item(f"{name}:{number}", Unusable(fault) if fault else text)


def _image_path(table: Path, number: int, column: str, value: Any) -> Any:
    if isinstance(value, Unusable):
        return value
    if not isinstance(value, str) or not value:
        return Unusable(f"row {number} has no path of an image in column '{column}'")
    return str(table.parent / value)


def _identity(value: Any, number: int, column: str) -> str | Unusable:
    if isinstance(value, Unusable):
        return Unusable(f"its id in column '{column}' {value.reason}")
    if value is None or (isinstance(value, float) and not math.isfinite(value)) or not str(value).strip():
        return Unusable(f"row {number} has no id in column '{column}'")
    if isinstance(value, (list, dict, tuple, bytes)):
        kind = type(value).__name__
        return Unusable(f"row {number} has a {kind} in column '{column}'; an id is a text or a number")
    return str(value)
