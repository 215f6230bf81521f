"""Which of several processes takes the next connection.

The system wakes whom it likes, which is mostly the one that was awake last: all clients that keep their connections end
up with one process, and the others are idle.
"""

from __future__ import annotations

import multiprocessing
from typing import Any

__all__ = ["Turns"]

_ABSENT = -1


class Turns:
    """How many connections each process has, in memory that they share. Each writes its own; the parent, of the dead.

    Numbers are written and read without a lock: one that is out of date costs a moment's wait, or an uneven share.
    """

    def __init__(self, processes: int) -> None:
        self._counts: Any = multiprocessing.get_context("spawn").RawArray("q", [_ABSENT] * processes)

    def has(self, number: int, connections: int) -> None:
        """A process has so many connections now, and takes more."""
        self._counts[number] = connections

    def leave(self, number: int) -> None:
        """A process takes no more."""
        self._counts[number] = _ABSENT

    def is_mine(self, number: int) -> bool:
        """Whether no other process that takes connections has fewer than this one."""
        own = self._counts[number]
        return all(own <= each for each in self._counts if each != _ABSENT)
