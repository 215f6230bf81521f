"""What the command line is given → images or texts with ids."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.decoders import is_supported_name
from runtime.errors import Fault, InputError

__all__ = ["Items", "collect_items"]

_TEXT_SUFFIXES = (".txt", ".csv", ".jsonl")


@dataclass(frozen=True)
class Items:
    """Things to embed.

    Attributes:
        part: "text" or "image".
        ids: one per item: the image's path as given, or the text's id or "file:line".
        values: texts, or paths of images.
    """

    part: str
    ids: list[str]
    values: list[str]


def collect_items(inputs: Sequence[str], texts: Sequence[str], column: str, id_column: str | None) -> Items:
    """Find the images or texts that arguments name.

    Args:
        inputs: image files, folders (searched for images, sorted), text files (.txt: one text a line; .csv and .jsonl:
            one text a row), "-" for lines of standard input.
        texts: texts given directly.
        column: name of the text column of .csv and .jsonl files.
        id_column: name of the id column; None numbers the rows.

    Raises:
        InputError: nothing found, images mixed with texts, files that are missing or lack the column. All faults are
            listed together.
    """
    images: list[str] = []
    found = Items("text", [f"text:{index}" for index in range(1, len(texts) + 1)], list(texts))
    faults: list[Fault] = []
    for position, name in enumerate(inputs):
        path = Path(name)
        if name == "-":
            lines = [line.rstrip("\n") for line in sys.stdin]
            found.ids.extend(f"-:{number}" for number in range(1, len(lines) + 1))
            found.values.extend(lines)
        elif path.is_dir():
            images += sorted(str(file) for file in path.rglob("*") if file.is_file() and is_supported_name(file))
        elif path.suffix.lower() in _TEXT_SUFFIXES:
            try:
                for identity, text in _read_texts(path, column, id_column):
                    found.ids.append(identity)
                    found.values.append(text)
            except (OSError, ValueError) as error:
                faults.append(Fault(position, name, str(error)))
        else:
            images.append(name)
    if faults:
        raise InputError.from_faults("inputs", faults, len(inputs))
    if images and found.values:
        raise InputError(
            f"{len(images)} images and {len(found.values)} texts came together; one output holds one kind. "
            "Run the command once for each."
        )
    if not images and not found.values:
        raise InputError(
            "There is nothing to embed: give image files, folders of images, .txt, .csv or .jsonl files, or --text."
        )
    return Items("image", images, images) if images else found


def _read_texts(path: Path, column: str, id_column: str | None) -> Iterable[tuple[str, str]]:
    if path.suffix.lower() == ".txt":
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                yield f"{path}:{number}", line.rstrip("\n")
        return
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _jsonl_rows(path)
    for number, row in rows:
        for name in (column, id_column):
            if name is not None and name not in row:
                raise ValueError(f"row {number} has no column '{name}'; it has: {', '.join(map(str, row))}")
        if not isinstance(row[column], str):
            raise ValueError(f"row {number}: column '{column}' is {row[column]!r}; a string is expected")
        yield (f"{path}:{number}" if id_column is None else str(row[id_column])), str(row[column])


def _csv_rows(path: Path) -> Iterable[tuple[int, dict[str, object]]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), 1):
            yield number, dict(row)


def _jsonl_rows(path: Path) -> Iterable[tuple[int, dict[str, object]]]:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is not a JSON object")
                yield number, row
