"""Texts that belong together, by which retrieval is judged: two columns of a file, or the halves of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from export.errors import CalibrationError
from export.samples.candidates import content_of, encode_usable
from runtime.archive import collect_items
from runtime.errors import Fault, InputError
from runtime.text import Tokenizer

__all__ = ["Pair", "column_pairs", "halves", "paired_texts"]

# Token ids of a text and of the one that it is to find.
Pair = tuple[list[int], list[int]]

# A half is at least so many tokens long, [CLS] and [SEP] included.
_LEAST_HALF = 5


def halves(rows: Sequence[list[int]], tokenizer: Tokenizer) -> list[Pair]:
    """Cut texts of several sentences in two, at the end of a sentence, as near to the middle as there is one.

    Args:
        rows: token ids of the texts; those of one sentence are left out.
        tokenizer: that they come from.
    """
    stop = tokenizer.find(".")
    found = []
    for row in rows:
        first, *words, last = row
        ends = [place + 1 for place, token in enumerate(words) if token == stop]
        ends = [end for end in ends if min(end, len(words) - end) + 2 >= _LEAST_HALF]
        if ends:
            end = min(ends, key=lambda end: abs(end - len(words) / 2))
            found.append(([first, *words[:end], last], [first, *words[end:], last]))
    return found


def paired_texts(source: Path, column: str, other: str) -> Mapping[bytes, str]:
    """Read a second column beside the first.

    Args:
        source: .csv, .jsonl or .parquet.
        column: of the texts.
        other: of those that they are to find.

    Returns:
        `content_of` a text → the one of the same row; rows in which either is missing are left out.

    Raises:
        CalibrationError: the file cannot be read or has no such column.
        MissingExtraError: a .parquet file without pyarrow.
    """
    rows = []
    for name in (column, other):
        unusable: list[Fault] = []
        try:
            items = collect_items([str(source)], [], name, None, unusable.append)
        except InputError as error:
            raise CalibrationError(f"{source}: {error.faults[0].reason}.") from None
        rows.append(dict(zip(items.ids, items.values, strict=True)))
    texts, others = rows
    return {
        content_of(text): others[row]
        for row, text in texts.items()
        if isinstance(text, str) and isinstance(others.get(row), str)
    }


def column_pairs(
    contents: Sequence[bytes], rows: Sequence[list[int]], others: Mapping[bytes, str], tokenizer: Tokenizer
) -> list[Pair]:
    """The texts of which the other is known and can be read by the model.

    Args:
        contents: `content_of` each text, in the order of rows, its token ids.
        others: see `paired_texts`.
        tokenizer: that of the model.
    """
    there = [(row, others[content]) for content, row in zip(contents, rows, strict=True) if content in others]
    encoded = encode_usable([other for _, other in there], tokenizer)
    return [(row, ids) for (row, _), ids in zip(there, encoded, strict=True) if not isinstance(ids, str)]
