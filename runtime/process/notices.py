"""What a user should know of files and texts that were taken all the same: said once, then counted."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from runtime.process.forks import ForkSafeLock

__all__ = ["Notice", "Notices"]

_LOG = logging.getLogger("runtime")
# Files remembered for each kind, so that one that is read again is not counted again.
_REMEMBERED = 1 << 16


class Notice(NamedTuple):
    """Something unusual in a file.

    Attributes:
        kind: what is counted; completes "N images: …".
        text: completes "NAME: …"; no value of a header that could identify somebody.
    """

    kind: str
    text: str


@dataclass
class _Kind:
    count: int = 0
    seen: set[int] = field(default_factory=set)


class Notices:
    """Says each kind of notice at WARNING of the logger "runtime" for the 1st, 10th, 100th, … file that has it.

    So an archive of 100,000 files gets six lines of a kind, not 100,000. Any thread may add.
    """

    def __init__(self, noun: str = "images") -> None:
        """Count nothing yet; `noun` is what is counted."""
        self._noun = noun
        self._lock = ForkSafeLock()
        self._kinds: dict[str, _Kind] = {}

    def add(self, name: str, notices: Iterable[Notice], key: str | None = None) -> None:
        """Count what was noticed of a file or text.

        Args:
            name: the file's name, as the caller gave it, or the beginning of a text.
            notices: a kind at most once.
            key: what tells it from others where its name does not.
        """
        seen = hash(name if key is None else key)
        for notice in notices:
            with self._lock:
                kind = self._kinds.setdefault(notice.kind, _Kind())
                if seen in kind.seen:
                    continue
                if len(kind.seen) == _REMEMBERED:
                    kind.seen.clear()
                kind.seen.add(seen)
                kind.count += 1
                count = kind.count
            if count == 1:
                _LOG.warning("%s: %s", name, notice.text)
            elif str(count).strip("0") == "1":
                _LOG.warning("%s %s by now: %s (the last is %s)", f"{count:,}", self._noun, notice.kind, name)

    def counts(self) -> dict[str, int]:
        """Files or texts of each kind so far, in the order in which kinds were first met."""
        with self._lock:
            return {name: kind.count for name, kind in self._kinds.items()}

    def summary(self) -> list[str]:
        """A line for each kind of which more than one was met, to be printed at the end of a job."""
        return [f"{count:,} {self._noun} in all: {kind}" for kind, count in self.counts().items() if count > 1]
