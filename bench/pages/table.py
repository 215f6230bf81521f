"""What a table is, however it is shown."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cell", "Column", "Line", "Table"]


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: what is shown.
        value: what it is sorted by where that is a number; a number column's cell without one stands last.
        small: a second line.
        tag: a word before the second line: "wrong", "reference" …
        tone: "good" or "bad" tints the tag, or the text where there is none.
        strong: whether it is what the row is about.
        rest: whether it stands for all columns from its own on.
    """

    text: str
    value: float | None = None
    small: str = ""
    tag: str = ""
    tone: str = ""
    strong: bool = False
    rest: bool = False


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: short.
        number: whether it is sorted by number, and stands right.
        hint: what it is, if the title does not say all.
    """

    title: str
    number: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Line:
    """A row; kind is that of its contestant, or ""."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: unique in the page.
        title: above it.
        columns: its head.
        lines: its body.
        note: below it.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    note: str = ""
