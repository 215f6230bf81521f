"""Calls of graphs: images of all callers in batches, and whatever else an engine's methods compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Session
from runtime.serve.scheduling.jobs import DueQueue, Item
from runtime.serve.scheduling.lanes import Batch
from runtime.serve.scheduling.rates import Rate

__all__ = ["GraphCall", "GraphLane"]

# Calls among which those that can be computed together are looked for.
_LOOK_AHEAD = 64
_SECONDS_A_ROW = 0.05

Key: TypeAlias = tuple[Any, ...]


@dataclass(eq=False)
class GraphCall:
    """One call of a session.

    Attributes:
        session: that it is for; called on the scheduler's threads alone.
        outputs: names.
        feeds: input → array; the first axis is the rows', the same for all.
        found: the outputs, once they are computed.
    """

    session: Session
    outputs: tuple[str, ...]
    feeds: Mapping[str, NDArray[Any]]
    found: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many it has."""
        return len(next(iter(self.feeds.values())))

    @property
    def key(self) -> Key:
        """Calls of equal keys can be computed together."""
        shapes = sorted((name, array.shape[1:], array.dtype.str) for name, array in self.feeds.items())
        return (id(self.session), self.outputs, *shapes)


class GraphLane:
    """Calls that are computed, those alike together; see `lanes.Lane`.

    Attributes:
        largest: rows that are computed together; a call of more is computed as it is.
    """

    def __init__(self, kind: str, largest: int) -> None:
        """An empty lane.

        Args:
            kind: see `Lane`.
            largest: rows that are computed together; a call of more is computed as it is.
        """
        self.kind = kind
        self.streams = 1
        self.queue: DueQueue[GraphCall] = DueQueue()
        self.largest = largest
        self._rates: dict[Key, Rate] = {}

    def rate(self, call: GraphCall) -> Rate:
        """Of rows of such a call."""
        return self._rates.setdefault(call.key, Rate(_SECONDS_A_ROW))

    def backlog(self) -> bool:
        """See `Lane`."""
        return self.queue.short_units >= 2 * self.largest

    def form(self) -> Batch:
        """See `Lane`."""
        first = next(iter(self.queue)).payload
        places, rows = [0], first.rows
        for place, item in enumerate(islice(self.queue, 1, _LOOK_AHEAD), start=1):
            if rows + item.payload.rows <= self.largest and item.payload.key == first.key:
                places.append(place)
                rows += item.payload.rows
        return self._batch(self.queue.take(places))

    def group(self, items: Sequence[Item[GraphCall]]) -> list[Batch]:
        """See `Lane`."""
        return [self._batch([item]) for item in items]

    def _batch(self, items: Sequence[Item[GraphCall]]) -> Batch:
        calls = [item.payload for item in items]
        first = calls[0]
        feeds: dict[str, NDArray[Any]] = {}

        def prepare() -> None:
            feeds.update(first.feeds)
            if len(calls) > 1:
                feeds.update({name: np.concatenate([call.feeds[name] for call in calls]) for name in first.feeds})

        def compute() -> None:
            found = first.session.run(first.outputs, feeds)
            start = 0
            for call in calls:
                end = start + call.rows
                # Copies: a view would keep the whole batch alive.
                call.found = [array[start:end].copy() for array in found] if len(calls) > 1 else list(found)
                start = end

        rows = sum(call.rows for call in calls)
        return Batch(items, rows, 0, self.rate(first), True, prepare, compute)
