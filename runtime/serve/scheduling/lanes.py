"""What a lane is: items of one kind, and which of them are computed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runtime.serve.scheduling.jobs import DueQueue, Item
from runtime.serve.scheduling.rates import Rate

__all__ = ["Batch", "Lane"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Items that are computed together.

    Attributes:
        items: of one lane.
        units: tokens, or rows: what the rate counts.
        tokens: of texts, padding left out; 0 for what is no text.
        rate: of its units; learns from it.
        alone: whether it has the engine to itself; others of the lane's are computed side by side.
        prepare: lays out what the graph reads; called before `compute`, while another batch may be computed.
        compute: runs the engine and keeps each item's result where the item says. May be called again after a failure.
    """

    items: Sequence[Item[Any]]
    units: int
    tokens: int
    rate: Rate
    alone: bool
    prepare: Callable[[], None]
    compute: Callable[[], None]


class Lane(Protocol):
    """Items of one kind; everything but the batches' own functions is called under the scheduler's lock.

    Attributes:
        kind: one of `observer.KINDS`.
        queue: its items.
        streams: batches that are computed side by side where they are not alone.
    """

    kind: str
    queue: DueQueue[Any]
    streams: int

    def form(self) -> Batch:
        """Take a batch with the item that is due first out of the queue, which is not empty."""

    def group(self, items: Sequence[Item[Any]]) -> list[Batch]:
        """Batches of items that were taken before."""

    def backlog(self) -> bool:
        """Whether so much waits that the next batch may be formed before the one before is done."""
