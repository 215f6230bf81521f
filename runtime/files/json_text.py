"""JSON as users write it → values, with what Python's reader lets pass or breaks on made a fault.

It keeps the last of two equal names without a word, turns numbers of thousands of digits down by version, and raises
RecursionError for deep nesting.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from runtime.files.text_files import decode_text, read_stdin

__all__ = ["HugeNumber", "JsonObject", "parse_json", "parse_row", "read_json"]

# Python converts whole numbers of at most this many digits whatever the process's limit is set to.
_DIGITS = 640
_NONE: frozenset[str] = frozenset()


class JsonObject(dict[str, Any]):
    """An object.

    Attributes:
        twice: names that were given more than once.
    """

    twice: frozenset[str]


class HugeNumber:
    """Stands for a whole number of more digits than are read."""


def parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is no JSON, nested too deeply, or has a name twice in an object or a huge number; the message is
            the reason.
    """
    return _loads(text, _each_once, _small)


def parse_row(text: str) -> Any:
    """As `parse_json`; names given twice and huge numbers are noted, for they matter only where they are asked for."""
    return _loads(text, _noted, _small_or_noted)


def read_json(source: Path | None) -> Any:
    """Read a file, or standard input where there is none; see `parse_json`.

    Raises:
        OSError: it cannot be read.
        ValueError: as `parse_json`; also what is not UTF-8.
    """
    return parse_json(decode_text(read_stdin() if source is None else source.read_bytes()))


def _loads(text: str, hook: Any, number: Any) -> Any:
    try:
        return json.loads(text, object_pairs_hook=hook, parse_int=number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = _noted(pairs)
    if found.twice:
        raise ValueError(f"'{min(found.twice)}' is given twice")
    return dict(found)


def _noted(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = JsonObject(pairs)
    found.twice = _NONE
    if len(found) != len(pairs):
        found.twice = frozenset(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return found


def _small(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"it has a whole number of {len(digits)} digits")
    return int(digits)


def _small_or_noted(digits: str) -> Any:
    return int(digits) if len(digits) <= _DIGITS else HugeNumber()
