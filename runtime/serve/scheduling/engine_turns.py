"""Who may use the engine: batches in the order in which they were formed, one alone or several side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["EngineTurns"]


class EngineTurns:
    """Turns by number: a lock would be given to who had it last, and a query's batch waited behind many others."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._tickets = 0
        self._turn = 0
        self._running = 0
        self._alone = False

    def ticket(self) -> int:
        """The next turn; whoever takes one must use it."""
        with self._changed:
            self._tickets += 1
            return self._tickets - 1

    @contextmanager
    def turn(self, ticket: int | None, alone: bool, streams: int) -> Iterator[None]:
        """Wait for the engine, and have it.

        Args:
            ticket: the turn; None to come as soon as the engine is free.
            alone: whether nothing else may use it meanwhile.
            streams: others of its kind that may, itself counted.
        """

        def may() -> bool:
            if ticket is not None and ticket != self._turn:
                return False
            return self._running == 0 or (not alone and not self._alone and self._running < streams)

        with self._changed:
            self._changed.wait_for(may)
            self._running += 1
            self._alone = alone
            if ticket is not None:
                self._turn += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
