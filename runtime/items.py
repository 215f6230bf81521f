"""What the command line is given → images or texts with ids."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from runtime.decoders import is_supported_name
from runtime.errors import Fault, InputError, MissingExtraError

__all__ = ["TEXT_SUFFIXES", "Items", "collect_items"]

_Rows: TypeAlias = "Iterator[tuple[int, dict[str, Any]]]"

_PARQUET_BATCH = 1024


@dataclass(frozen=True)
class Items:
    """Things to embed.

    Attributes:
        part: "text" or "image".
        ids: one per item: the image's path as given, or the text's id, or "file:number" with the number of the line
            (.txt, .jsonl) or record (.csv without its header, .parquet), from 1.
        values: texts, or paths of images; what a row holds instead of a text is kept for the encoder to refuse.
    """

    part: str
    ids: list[str]
    values: list[Any]


def collect_items(inputs: Sequence[str], texts: Sequence[str], column: str, id_column: str | None) -> Items:
    """Find the images or texts that arguments name.

    Args:
        inputs: image files, folders (searched for images, sorted), text files (.txt: one text a line; .csv, .jsonl and
            .parquet: one text a row), "-" for lines of standard input.
        texts: texts given directly.
        column: name of the text column of .csv, .jsonl and .parquet files.
        id_column: name of the id column; None numbers the rows.

    Raises:
        InputError: nothing found, images mixed with texts, files that are missing, unreadable, empty or without the
            column. All faults are listed together.
        MissingExtraError: a .parquet file without pyarrow.
    """
    images: list[str] = []
    found = Items("text", [f"text:{index}" for index in range(1, len(texts) + 1)], list(texts))
    faults: list[Fault] = []
    for position, name in enumerate(inputs):
        path = Path(name)
        before = len(images) + len(found.ids)
        try:
            if name == "-":
                _add_lines(found, "-", sys.stdin.buffer.read())
            elif path.suffix.lower() == ".txt":
                _add_lines(found, name, path.read_bytes())
            elif path.suffix.lower() in _TABLE_ROWS:
                for identity, text in _read_table(path, column, id_column):
                    found.ids.append(identity)
                    found.values.append(text)
            elif _is_folder(path):
                images += sorted(str(file) for file in path.rglob("*") if file.is_file() and is_supported_name(file))
            else:
                images.append(name)
        except UnicodeDecodeError as error:
            faults.append(Fault(position, name, f"is not UTF-8 ({error}). Save it as UTF-8"))
        except (OSError, ValueError, csv.Error) as error:
            faults.append(Fault(position, name, str(error)))
        else:
            if len(images) + len(found.ids) == before:
                faults.append(Fault(position, name, "holds nothing to embed"))
    if faults:
        raise InputError.from_faults("inputs", faults, len(inputs))
    if images and found.values:
        raise InputError(
            f"{len(images)} images and {len(found.values)} texts came together; one output holds one kind. "
            "Run the command once for each."
        )
    if not images and not found.values:
        raise InputError(
            "There is nothing to embed: give image files, folders of images, .txt, .csv, .jsonl or .parquet files, "
            "or --text."
        )
    return Items("image", images, list(images)) if images else found


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise ValueError(f"is no file name ({error.strerror}). Is it a text? Then pass it with --text") from None


def _add_lines(items: Items, name: str, content: bytes) -> None:
    for number, line in enumerate(content.decode("utf-8-sig").splitlines(), 1):
        items.ids.append(f"{name}:{number}")
        items.values.append(line)


def _read_table(path: Path, column: str, id_column: str | None) -> Iterator[tuple[str, Any]]:
    wanted = [name for name in (column, id_column) if name is not None]
    for number, row in _TABLE_ROWS[path.suffix.lower()](path, wanted):
        for name in wanted:
            if name not in row:
                raise ValueError(f"row {number} has no column '{name}'; it has: {', '.join(map(str, row))}")
        identity = f"{path}:{number}" if id_column is None else row[id_column]
        if identity is None or identity == "":
            raise ValueError(f"row {number} has no id in column '{id_column}'")
        yield str(identity), row[column]


def _csv_rows(path: Path, _wanted: Sequence[str]) -> _Rows:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        try:
            for number, row in enumerate(reader, 1):
                yield number, dict(row)
        except csv.Error as error:
            raise ValueError(f"is not valid CSV near line {reader.line_num} ({error}). Check its quotes") from None


def _jsonl_rows(path: Path, _wanted: Sequence[str]) -> _Rows:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} is not valid JSON ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not a JSON object")
            yield number, row


def _parquet_rows(path: Path, wanted: Sequence[str]) -> _Rows:
    """Only the wanted columns are read: tables of reports often carry their images along."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(f"Reading {path}", "pyarrow", "parquet") from None
    with path.open("rb") as stream:
        try:
            file = pyarrow.parquet.ParquetFile(stream)
            names = file.schema_arrow.names
            for name in wanted:
                if name not in names:
                    raise ValueError(f"has no column '{name}'; it has: {', '.join(names)}")
            number = 0
            for batch in file.iter_batches(_PARQUET_BATCH, columns=list(wanted)):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError) as error:  # either may come of broken content
            raise ValueError(f"is not valid Parquet ({error}). Write it again") from None


_TABLE_ROWS: dict[str, Callable[[Path, Sequence[str]], _Rows]] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}
TEXT_SUFFIXES = (".txt", *_TABLE_ROWS)
