"""Tables of sentences that belong together, read whole, with what is wrong in them by line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import Fault, InputError
from runtime.files import Unusable
from runtime.files.tables import TABLES, read_rows
from runtime.process import print_note
from runtime.text import Tokenizer

__all__ = ["Sentences", "read_sentences", "settle"]


@dataclass(frozen=True)
class Sentences:
    """A row of a table.

    Attributes:
        line: number of the line (JSON lines) or record (CSV, Parquet), from 1.
        texts: the sentences, in the order of the columns asked for.
        label: what the label's column holds; "" where none was asked for.
    """

    line: int
    texts: tuple[str, ...]
    label: str


def read_sentences(
    file: Path, columns: Sequence[str], label: str | None = None, labels: Sequence[str] = ()
) -> tuple[list[Sentences], list[Fault]]:
    """Read a table.

    Args:
        file: .jsonl, .csv or .parquet.
        columns: those with sentences.
        label: the one with a label.
        labels: what may stand there.

    Returns:
        The good rows, and a fault for each other one; `Fault.index` is the row's number, as in `Sentences.line`.

    Raises:
        InputError: the file cannot be read, is of another kind, or holds nothing.
        MissingExtraError: a .parquet file without pyarrow.
    """
    if file.suffix.lower() not in TABLES:
        raise InputError(f"{file} has the suffix '{file.suffix}'; {', '.join(TABLES)} are expected.")
    wanted = [*columns, *([label] if label else [])]
    rows: list[Sentences] = []
    faults: list[Fault] = []
    try:
        for number, row in read_rows(file, wanted):
            if isinstance(row, Unusable):
                faults.append(Fault(number, f"line {number}", row.reason))
            elif reason := _fault(row, columns, label, labels):
                faults.append(Fault(number, f"line {number}", reason))
            else:
                rows.append(Sentences(number, tuple(row[name] for name in columns), row[label] if label else ""))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{file}: {reason}") from None
    if not rows and not faults:
        raise InputError(f"{file} holds no rows.")
    return rows, faults


def settle(
    file: Path, rows: Sequence[Sentences], faults: Sequence[Fault], tokenizer: Tokenizer, skip_bad: bool
) -> list[Sentences]:
    """Leave out what cannot be used and list it, or raise.

    Args:
        file: for the message.
        rows: good as far as the file goes; what the model cannot read is found here.
        faults: of reading.
        tokenizer: the model's.
        skip_bad: leave bad rows out; otherwise they are an error.

    Raises:
        InputError: bad rows that were not to be left out (all are listed), or nothing is left.
    """
    flat = [text for row in rows for text in row.texts]
    _, unreadable = tokenizer.try_encode(flat)
    owner = [row.line for row in rows for _ in row.texts]
    listed = sorted(
        [*faults, *(Fault(owner[each.index], f"line {owner[each.index]}", each.reason) for each in unreadable)],
        key=lambda fault: fault.index,
    )
    bad = {fault.index for fault in listed}
    good = [row for row in rows if row.line not in bad]
    if listed:
        lines = "\n".join(f"  {fault.name}: {fault.reason}" for fault in listed)
        message = f"{file}: {len(bad)} of {len(good) + len(bad)} lines cannot be used:\n{lines}"
        if not skip_bad:
            raise InputError(f"{message}\nMend them, or leave them out with --skip-bad.", listed)
        print_note(f"Left out: {message}")
    if not good:
        raise InputError(f"{file} holds no row that can be used.")
    return good


def _fault(row: Mapping[Any, Any], columns: Sequence[str], label: str | None, labels: Sequence[str]) -> str | None:
    """Why a row cannot be used."""
    checks: list[tuple[str, Callable[[Any], str | None]]] = [(name, _no_sentence) for name in columns]
    if label:
        checks.append((label, lambda value: _no_label(value, labels)))
    missing = [name for name, _ in checks if name not in row]
    if missing:
        return f"has no key {', '.join(map(repr, missing))}; it has: {', '.join(map(str, row))}"
    reasons = [f"{name!r} {reason}" for name, check in checks if (reason := check(row[name]))]
    return "; ".join(reasons) or None


def _no_sentence(value: Any) -> str | None:
    if isinstance(value, Unusable):
        return value.reason
    if not isinstance(value, str):
        return f"is a {type(value).__name__}, a sentence is expected"
    return None if value.strip() else "is empty"


def _no_label(value: Any, labels: Sequence[str]) -> str | None:
    if isinstance(value, Unusable):
        return value.reason
    return None if value in labels else f"is {value!r}, expected is one of: {', '.join(labels)}"
