"""Types of the command lines' arguments, for the three packages.

Each raises ValueError or argparse's ArgumentTypeError, which the parser turns into an error that names the argument.
"""

from __future__ import annotations

import argparse

__all__ = ["as_text", "count", "counts", "names", "positive", "seed", "whole_number"]


def as_text(argument: str) -> str:
    """A text: UTF-8 even where the locale's encoding is another and cannot hold it.

    Names of files stay as Python gives them, since it would not find them otherwise.
    """
    try:
        return argument.encode("ascii", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return argument


def count(text: str) -> int:
    """A whole number of at least 1."""
    return _whole_number(text, 1)


def whole_number(text: str) -> int:
    """A whole number of at least 0."""
    return _whole_number(text, 0)


def seed(text: str) -> int:
    """A whole number of at least 0."""
    return _whole_number(text, 0)


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value:g}; a number above 0 is expected")
    return value


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas, which may be none."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1, separated by commas."""
    return tuple(count(part) for part in text.split(","))


def _whole_number(text: str, least: int) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"{value}; at least {least} is expected")
    return value
