"""Words that messages share: the first few of many names, counts with their noun, and what results are good for."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["RANDOM_WEIGHTS", "RESEARCH_ONLY", "counted", "few"]

RESEARCH_ONLY = "For research only, not for clinical use."
RANDOM_WEIGHTS = "Random weights: this result means nothing."


def few(names: Iterable[str], most: int = 5) -> str:
    """Names in a row; of more than `most` the first, and how many more there are: "a, b, c and 4 more"."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def counted(count: int, noun: str, plural: str = "") -> str:
    """Such as "1 image" or "2 images"; `plural` is for nouns that take more than an s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
