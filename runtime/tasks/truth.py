"""A CSV file of labels → what is true of each image.

The values are those of CheXpert's and MIMIC-CXR's tables (Irvin et al., AAAI 2019): 1 present, 0 absent, -1 uncertain,
nothing where the finding is not mentioned.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import Fault, InputError
from runtime.files import Unusable
from runtime.files.formats import is_supported_name
from runtime.files.tables import TABLES, Row, parse_number, read_rows

__all__ = ["ABSENT", "BLANK", "PRESENT", "UNCERTAIN", "Matches", "TruthTable", "match_images", "read_truth"]

PRESENT, ABSENT, UNCERTAIN, BLANK = 1, 0, -1, -2


@dataclass(frozen=True, eq=False)
class TruthTable:
    """What a file says of the labels that were asked for.

    Attributes:
        ids: of each row.
        labels: those that have a column, in the order asked for.
        missing: those that have none.
        unused: the other columns of the file, but for the ids.
        values: int8 (rows, labels): PRESENT, ABSENT, UNCERTAIN or BLANK.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    values: NDArray[np.int8]


@dataclass(frozen=True)
class Matches:
    """Which row belongs to which image.

    Attributes:
        row_of: id of an image → its row.
        unlabelled: ids of images without a row.
        ambiguous: ids of images that share the end of their path, and so a row that means one of them.
        unused: ids of rows without an image.
    """

    row_of: dict[str, int]
    unlabelled: tuple[str, ...]
    ambiguous: tuple[str, ...]
    unused: tuple[str, ...]


def read_truth(path: Path, labels: Sequence[str], id_column: str) -> TruthTable:
    """Read the columns of some labels.

    Args:
        path: a CSV file with a header, UTF-8.
        labels: names of columns, found without regard to case and surrounding spaces.
        id_column: the column that says which image a row is about, by that very name.

    Raises:
        InputError: the file cannot be read, lacks the id column or every label, has a column twice or no rows; rows
            with too many or too few fields, without an id, with an id that came before, or with values other than 1, 0,
            -1 and nothing. All bad rows are listed together.
    """
    try:
        header = TABLES[".csv"].columns(path) or []
        place, columns = _columns(path, header, labels, id_column)
        kept = {label: column for label, column in columns.items() if column is not None}
        ids, values = _read(path, id_column, [header[column] for column in kept.values()])
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"The labels {path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise InputError(f"The labels {path} cannot be used: the file {error}.") from None
    used = {place, *kept.values()}
    return TruthTable(
        ids=ids,
        labels=tuple(kept),
        missing=tuple(label for label in columns if label not in kept),
        unused=tuple(name for column, name in enumerate(header) if column not in used),
        values=np.array(values, dtype=np.int8).reshape(len(ids), len(kept)),
    )


def match_images(table: TruthTable, images: Iterable[tuple[str, str | None]]) -> Matches:
    """Find each image's row: by its id, else by the end of its path.

    The image "/data/valid/p1/frontal.png" has the row of that id, else of "data/valid/p1/frontal.png" and so on to
    "frontal.png", each also without ".png"; the longest counts. Several images may have one row by their id, but not by
    the end of their path.

    Args:
        table: of labels.
        images: id and path of each; without a path the id alone counts.
    """
    rows = {_slashes(name): row for row, name in enumerate(table.ids)}
    by_id: dict[str, int] = {}
    by_end: dict[str, int] = {}
    unlabelled: list[str] = []
    for name, path in dict(images).items():
        if _slashes(name) in rows:
            by_id[name] = rows[_slashes(name)]
            continue
        ends = _ends(_slashes(os.path.abspath(path))) if path else iter(())  # noqa: PTH100 (links are not followed)
        row = next((rows[end] for end in ends if end in rows), None)
        if row is None:
            unlabelled.append(name)
        else:
            by_end[name] = row
    taken = Counter([*by_id.values(), *by_end.values()])
    ambiguous = [name for name, row in by_end.items() if taken[row] > 1]
    row_of = by_id | {name: row for name, row in by_end.items() if taken[row] == 1}
    unused = [name for row, name in enumerate(table.ids) if row not in taken]
    return Matches(row_of, tuple(unlabelled), tuple(ambiguous), tuple(unused))


def _read(path: Path, id_name: str, names: Sequence[str]) -> tuple[tuple[str, ...], list[list[int]]]:
    """Ids, and the values of some columns."""
    ids: dict[str, tuple[int, str]] = {}
    values: list[list[int]] = []
    faults: list[Fault] = []
    number = 0
    for number, row in read_rows(path, [id_name, *names], ".csv"):
        reasons, identity, found = _row_faults(row, id_name, names, ids)
        if reasons:
            faults.append(Fault(number - 1, f"row {number}", "; ".join(reasons)))
        else:
            ids[_slashes(identity)] = (number, identity)
            values.append(found)
    if faults:
        raise InputError.from_faults(f"rows of {path}", faults, max(number, 2))
    if not number:
        raise InputError(f"The labels {path} have no rows.")
    return tuple(identity for _, identity in ids.values()), values


def _columns(
    path: Path, header: Sequence[str], labels: Sequence[str], id_column: str
) -> tuple[int, dict[str, int | None]]:
    """Position of the ids, and of each label or None."""
    there = f"it has: {', '.join(header) or 'nothing'}"
    if id_column not in header:
        raise InputError(
            f"The labels {path} have no column '{id_column}' of ids; {there}. Name the one that says which image a row "
            "is about with --label-id-column."
        )
    names = [name.strip().casefold() for name in header]
    wanted = {label: label.strip().casefold() for label in labels}
    twice = [label for label, name in wanted.items() if names.count(name) > 1]
    if twice or header.count(id_column) > 1:
        raise InputError(f"The labels {path} have the column '{[*twice, id_column][0]}' twice. Remove one.")
    columns = {label: names.index(name) if name in names else None for label, name in wanted.items()}
    if all(column is None for column in columns.values()):
        raise InputError(f"The labels {path} have no column for any of: {', '.join(labels)}; {there}.")
    return header.index(id_column), columns


def _row_faults(
    row: Row, id_name: str, names: Iterable[str], ids: Mapping[str, tuple[int, str]]
) -> tuple[list[str], str, list[int]]:
    """What is wrong with a row, its id, and its values."""
    if isinstance(row, Unusable):
        return [row.reason], "", []
    cells = {name: row[name] for name in (id_name, *names)}
    if reasons := [f"column '{name}' {cell.reason}" for name, cell in cells.items() if isinstance(cell, Unusable)]:
        return reasons, "", []
    identity: str = row[id_name]
    if not identity.strip():
        reasons.append(f"has no id in column '{id_name}'")
    elif (before := ids.get(_slashes(identity))) is not None:
        reasons.append(f"its id '{identity}' came before, in row {before[0]}")
    values = []
    for name in names:
        value = _value(row[name])
        if value is None:
            reasons.append(f"column '{name}' holds '{row[name]}'; 1, 0, -1 (uncertain) or nothing is expected")
        else:
            values.append(value)
    return reasons, identity, values


def _value(text: str) -> int | None:
    if not text.strip():
        return BLANK
    number = parse_number(text)
    if number is not None and math.isnan(number):
        return BLANK  # as some programs write an empty cell
    return int(number) if number in (PRESENT, ABSENT, UNCERTAIN) else None


def _slashes(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _ends(name: str) -> Iterator[str]:
    """A path's ends from the longest, each with and without the image's suffix."""
    parts = name.split("/")
    for first in range(len(parts)):
        end = "/".join(parts[first:])
        yield end
        while is_supported_name(Path(end)):  # ".nii.gz" are two
            end = end.rpartition(".")[0]
        if end:
            yield end
