"""Texts of all callers, packed into batches by looking ahead in the queue.

The batch that runs next holds the text that is due first; what else is in it is chosen among all that wait, so that
rows are full. First come, first served would fill them by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Session
from runtime.serve.scheduling.jobs import DueQueue, Item
from runtime.serve.scheduling.lanes import Batch
from runtime.serve.scheduling.rates import Rate
from runtime.text.packing import WIDTH_COST, Row
from runtime.text.text_batches import TextBatch, TextBatches

__all__ = ["TextItem", "TextLane", "balanced", "choose", "renumbered", "rounded"]

# The engine may wait while a batch is planned: no more texts than that, or tokens of so many batches.
_LOOK_AHEAD_TEXTS = 256
_LOOK_AHEAD_BATCHES = 6
# Padding that joining two batches may add: a call costs the engine about as much as so many tokens (OpenVINO int8
# BERT-base on 2 cores: 3.6 ms a call, 0.11 ms a token).
_WORTH_A_CALL = 32
# So many times what the engine computes at a time is so much that batches are computed side by side, or laid out ahead.
# Side by side each takes longer: from one batch on, arrivals at random at 70 % of capacity had a 99th percentile of
# 434 ms instead of 187.
_MUCH = 1.5
# While less than a batch waits, texts of at most so many tokens are computed together, those first that are due first:
# larger batches would make them wait longer (simulated at 70 % of capacity: the 99th percentile falls by a quarter).
_SOON = 256
_FEW = 32
# Widths of batches of at most so many rows, and at most so wide, are multiples of so much; of all others of 32.
_GRIDS = ((1, 128, 8), (4, 256, 16))
_COARSE = 32
# A guess until the first batch was timed.
_SECONDS_A_TOKEN = 1e-4


@dataclass(frozen=True)
class TextItem:
    """One text.

    Attributes:
        tokens: token ids, special tokens among them.
        output: "text_embeds" or "unnormalized_embeds".
        into: float32 (D,): where its embedding is to be kept.
    """

    tokens: Sequence[int]
    output: str
    into: NDArray[np.float32]


class TextLane:
    """Texts that are embedded; see `lanes.Lane`."""

    kind = "text"

    def __init__(
        self,
        batches: TextBatches,
        session: Session,
        token_budget: int,
        bulk: Session | None = None,
        streams: int = 1,
    ) -> None:
        """An empty lane.

        Args:
            batches: plans and lays out.
            session: of the graph, for batches that have the engine to themselves; called on the scheduler's threads
                alone.
            token_budget: tokens in one batch, padding counted.
            bulk: a session that computes batches side by side, of `batches.token_budget` tokens each, where there is
                much to do: a thread that the server itself interrupts holds up its own batch alone. None where there
                is none.
            streams: batches that it computes side by side.
        """
        self.streams = streams if bulk is not None else 1
        self._bulk = bulk
        self.queue: DueQueue[TextItem] = DueQueue()
        self.rate = Rate(_SECONDS_A_TOKEN)
        self.token_budget = token_budget
        self._batches = batches
        self._session = session

    def backlog(self) -> bool:
        """See `Lane`.

        To lay one out ahead a corpus is no reason: a query that comes meanwhile would wait for a batch more.
        """
        together = self.token_budget if self._bulk is None else self.streams * self._batches.token_budget
        return self.queue.short_units >= _MUCH * together

    def form(self) -> Batch:
        """See `Lane`."""
        lengths: list[int] = []
        tokens = queries = 0
        for item in islice(self.queue, _LOOK_AHEAD_TEXTS):
            if queries == len(lengths) and item.job.short:
                queries += 1
            lengths.append(len(item.payload.tokens))
            tokens += lengths[-1]
            if tokens >= _LOOK_AHEAD_BATCHES * self.token_budget:
                break
        # Queries before a corpus are not made to wait for as much of it as fits.
        soon = lengths if tokens <= self.token_budget else lengths[: queries if queries < len(lengths) else 0]
        rows: Sequence[Row] | None = None
        if self._batches.packed and soon and sum(soon) <= self.token_budget:
            rows = balanced(_first(soon, min(_SOON, self.token_budget)), self._batches.longest)
        alone = rows is not None or self._bulk is None or not self.backlog()
        if rows is None:
            budget = self.token_budget if alone else self._batches.token_budget
            rows = choose(list(self._batches.plan(lengths, budget)), budget)
        places = sorted(text for row in rows for text in row.texts)
        return self._batch(self.queue.take(places), renumbered(rows, places), alone)

    def group(self, items: Sequence[Item[TextItem]]) -> list[Batch]:
        """See `Lane`."""
        lengths = [len(item.payload.tokens) for item in items]
        found = []
        for rows in self._batches.plan(lengths, self.token_budget):
            places = sorted(text for row in rows for text in row.texts)
            found.append(self._batch([items[place] for place in places], renumbered(rows, places)))
        return found

    def _batch(self, items: Sequence[Item[TextItem]], rows: Sequence[Row], alone: bool = True) -> Batch:
        payloads = [item.payload for item in items]
        tokens = sum(len(each.tokens) for each in payloads)
        laid_out: list[TextBatch] = []

        def prepare() -> None:
            laid_out[:] = [self._batches.lay_out(rows, [each.tokens for each in payloads])]

        def compute() -> None:
            (batch,) = laid_out
            outputs = sorted({each.output for each in payloads})
            session = self._session if alone or self._bulk is None else self._bulk
            found = dict(zip(outputs, session.run(outputs, batch.inputs), strict=True))
            embeddings = {output: array[batch.found] for output, array in found.items()}
            for place, text in enumerate(batch.texts.tolist()):
                payload = payloads[text]
                payload.into[:] = embeddings[payload.output][place]

        return Batch(items, tokens, tokens, self.rate, alone, prepare, compute)


def choose(plans: Sequence[Sequence[Row]], token_budget: int) -> Sequence[Row]:
    """The rows to compute next: of the batch with the first text, and of others that are cheaper now than on their own.

    Args:
        plans: batches, each of rows of one width.
        token_budget: rows × width that they may have together.
    """
    chosen = next(plan for plan in plans if any(0 in row.texts for row in plan))
    rows, width = list(chosen), chosen[0].width
    for plan in plans:
        if plan is chosen:
            continue
        widest = max(width, plan[0].width)
        padding = len(rows) * (widest - width) + len(plan) * (widest - plan[0].width)
        if padding <= _WORTH_A_CALL and (len(rows) + len(plan)) * widest <= token_budget:
            rows, width = [*rows, *plan], widest
    return [replace(row, width=width) for row in rows]


def balanced(lengths: Sequence[int], longest: int) -> list[Row] | None:
    """All of a few texts in as many rows as are cheapest, about equally full.

    At low load padding is felt: a planner for many texts rounds widths up to what it would fill, which costs a text of
    43 tokens half as much again.

    Args:
        lengths: number of tokens of each text.
        longest: largest width of a row.

    Returns:
        Rows of one width; None for more texts than that is worth.
    """
    if len(lengths) > _FEW:
        return None
    best: tuple[float, list[Row]] | None = None
    order = sorted(range(len(lengths)), key=lambda text: -lengths[text])
    for count in range(1, len(lengths) + 1):
        rows: list[list[int]] = [[] for _ in range(count)]
        used = [0] * count
        for text in order:
            row = used.index(min(used))
            rows[row].append(text)
            used[row] += lengths[text]
        width = rounded(count, max(used))
        cost = count * width * (1 + width * WIDTH_COST)
        if max(used) <= longest and (best is None or cost < best[0]):
            best = cost, [Row(min(width, max(longest, max(used))), tuple(row)) for row in rows]
    return None if best is None else best[1]


def rounded(rows: int, width: int) -> int:
    """The width that so many rows of so many tokens get: there must not be too many, see `opening.warm_up`."""
    grid = next((grid for most, widest, grid in _GRIDS if rows <= most and width <= widest), _COARSE)
    return -(-width // grid) * grid


def _first(lengths: Sequence[int], tokens: int) -> list[int]:
    """As many as have no more tokens together, at least one."""
    count, total = 1, lengths[0]
    while count < len(lengths) and total + lengths[count] <= tokens:
        total += lengths[count]
        count += 1
    return list(lengths[:count])


def renumbered(rows: Iterable[Row], places: Sequence[int]) -> list[Row]:
    """Rows whose texts are numbered by their position in `places`."""
    number = {place: index for index, place in enumerate(places)}
    return [replace(row, texts=tuple(number[text] for text in row.texts)) for row in rows]
