"""CSV (RFC 4180: commas, quotes doubled within quotes) → records, strictly and a record at a time.

What Python's csv module makes of a file in its strict mode, with two differences that keep rows from being lost:

- a fault of the quotes names the line where the quote opened, not the one where reading came to an end; and a quote
  that seems closed only by accident, by another one rows further on, is such a fault;
- cells may be of any size. The module's limit is one for the whole process, so a library has no business to change it.

A quote inside an unquoted cell is a character like any other, as for every other reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Record", "read_records"]


class Record(NamedTuple):
    """A record.

    Attributes:
        line: number of the line that it begins in, from 1.
        fields: its cells.
    """

    line: int
    fields: list[str]


def read_records(lines: Iterator[str], hold: bool = True) -> Iterator[Record]:
    """Split lines into records; empty lines are none.

    Args:
        lines: with their line ends.
        hold: False leaves the contents of quoted cells out, so that counting needs no memory for them.

    Raises:
        ValueError: a quote that never closes, closes within a cell, or closes after it has swallowed other rows: a
            record over several lines that has not as many fields as the first one, though one of those lines has.
    """
    width = number = 0
    for line in lines:
        number += 1
        if '"' not in line:
            fields = line.rstrip("\r\n").split(",")
            if fields == [""]:
                continue
            record = Record(number, fields)
        else:
            record, last, opened, row_inside = _quoted(line, number, lines, width, hold)
            number = last
            if row_inside and width != len(record.fields):
                raise _fault(
                    opened,
                    f"the quote that opens there closes in line {last} and has rows in it: it makes "
                    f"{len(record.fields)} fields, where the header has {width}",
                )
        width = width or len(record.fields)
        yield record


def _quoted(line: str, number: int, lines: Iterator[str], width: int, hold: bool) -> tuple[Record, int, int, bool]:
    """A record with quotes in it, its last line, the line of its first cell over several, and whether one is a row."""
    start, opened, row_inside = number, 0, False
    fields: list[str] = []
    position = 0
    while True:
        if not line.startswith('"', position):
            end = line.find(",", position)
            if end < 0:
                fields.append(line[position:].rstrip("\r\n"))
                break
            fields.append(line[position:end])
            position = end + 1
            continue
        opening, pieces = number, []
        position += 1
        while (end := _closing(line, position)) < 0:
            if hold:
                pieces.append(line[position:])
            following = next(lines, None)
            if following is None:
                raise _fault(opening, "the quote that opens there never closes")
            line, position = following, 0
            number += 1
            row_inside = row_inside or line.count(",") == width - 1
        opened = opened or (opening if opening != number else 0)
        if hold:
            pieces.append(line[position:end])
        fields.append("".join(pieces).replace('""', '"'))
        position = end + 1
        if position == len(line) or line[position] in "\r\n":
            break
        if line[position] != ",":
            where = "" if opening == number else f" in line {number}"
            raise _fault(
                opening,
                f"the quote that opens there closes{where} before {line[position]!r}, where a comma or the end of the "
                "row is expected; a quote within quotes is written twice",
            )
        position += 1
    return Record(start, fields), number, opened, row_inside


def _closing(line: str, position: int) -> int:
    """Where the quote closes, or -1; two quotes in a row are one of the text."""
    while (end := line.find('"', position)) >= 0 and line.startswith('"', end + 1):
        position = end + 2
    return end


def _fault(line: int, reason: str) -> ValueError:
    return ValueError(f"is not valid CSV near line {line} ({reason}). Check its quotes")
