"""Jobs, the parts of requests that one lane computes, and the order in which their items are due."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from runtime.serve.caller import Caller

__all__ = ["STRETCH", "DueQueue", "Item", "Job"]

# An item is due when its request has waited so many times what it and the items before it cost. So a short request
# overtakes a long one, and a long one is never put off for ever: against any number of short ones it still gets a
# quarter of the engine.
STRETCH = 4.0
# Seconds.
_SHORT = 0.25


@dataclass(eq=False)
class Job:
    """What a request wants of one lane.

    Attributes:
        caller: whose it is.
        kind: of the lane.
        deliver: called once, on the thread that finished it, with the error or None. What it returns is called after
            all that are delivered together, once for those that return the same.
        arrival: `time.monotonic()` of its submission.
        cost: seconds that its items were estimated to take.
        pending: items not yet computed.
        left: estimated seconds of those not yet begun.
        error: why it failed, the first reason.
    """

    caller: Caller
    kind: str
    deliver: Callable[[Exception | None], Callable[[], None] | None]
    arrival: float = field(default_factory=time.monotonic)
    cost: float = 0.0
    pending: int = 0
    left: float = 0.0
    error: Exception | None = None

    @property
    def short(self) -> bool:
        """Whether it is estimated to take little: a query, not a corpus."""
        return self.cost <= _SHORT

    @property
    def over(self) -> bool:
        """Whether nobody waits for what is left of it."""
        deadline = self.caller.deadline
        passed = deadline is not None and time.monotonic() >= deadline
        return self.caller.gone or self.error is not None or passed


_Payload = TypeVar("_Payload")


@dataclass(eq=False)
class Item(Generic[_Payload]):
    """One text, or the rows of a graph that must be computed in one call.

    Attributes:
        job: that it is part of.
        payload: what the lane computes it from.
        cost: estimated seconds.
        units: tokens, or rows.
        due: see `STRETCH`; `time.monotonic()`.
    """

    job: Job
    payload: _Payload
    cost: float
    units: int
    due: float = 0.0


class DueQueue(Generic[_Payload]):
    """Items in the order in which they are due.

    Attributes:
        units: of all that wait.
        short_units: of the short jobs' items.
    """

    def __init__(self) -> None:
        self._items: list[Item[_Payload]] = []
        self.units = 0
        self.short_units = 0

    def __len__(self) -> int:
        return len(self._items)

    def push(self, job: Job, items: Sequence[Item[_Payload]]) -> None:
        """Add the items of a new job, one due after the other."""
        job.pending = len(items)
        job.cost = job.left = sum(item.cost for item in items)
        spent = 0.0
        for item in items:
            spent += item.cost
            item.due = job.arrival + STRETCH * spent
            bisect.insort(self._items, item, key=_due)
        self._count(items, 1)

    def first_due(self) -> float | None:
        """When the first item is due, None where there is none."""
        return self._items[0].due if self._items else None

    def remove(self, unwanted: Callable[[Item[_Payload]], bool]) -> list[Item[_Payload]]:
        """Take out the items that are not wanted."""
        removed = [item for item in self._items if unwanted(item)]
        if removed:
            self._items = [item for item in self._items if not unwanted(item)]
            self._count(removed, -1)
        return removed

    def __iter__(self) -> Iterator[Item[_Payload]]:
        return iter(self._items)

    def take(self, places: Iterable[int]) -> list[Item[_Payload]]:
        """Remove the items at these places."""
        chosen = set(places)
        among = max(chosen) + 1
        taken = [self._items[place] for place in sorted(chosen)]
        self._count(taken, -1)
        self._items[:among] = [item for place, item in enumerate(self._items[:among]) if place not in chosen]
        return taken

    def _count(self, items: Sequence[Item[_Payload]], sign: int) -> None:
        self.units += sign * sum(item.units for item in items)
        self.short_units += sign * sum(item.units for item in items if item.job.short)


def _due(item: Item[Any]) -> float:
    return item.due
