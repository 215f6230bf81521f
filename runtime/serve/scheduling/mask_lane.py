"""Texts with masks of all callers, packed as texts are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from runtime.engines import Session
from runtime.serve.scheduling.jobs import DueQueue, Item
from runtime.serve.scheduling.lanes import Batch
from runtime.serve.scheduling.rates import Rate
from runtime.serve.scheduling.text_lane import choose
from runtime.text.fill_mask import Filled, MaskedTexts, MaskFiller
from runtime.text.packing import MaskedBatch

__all__ = ["MaskItem", "MaskLane"]

_LOOK_AHEAD_TEXTS = 64
_SECONDS_A_TOKEN = 1e-4


@dataclass(frozen=True)
class MaskItem:
    """One text with masks.

    Attributes:
        asked: of `MaskFiller.read`.
        text: which of its texts.
        into: a list for each of the text's masks: where its words are to be kept.
    """

    asked: MaskedTexts
    text: int
    into: list[list[Filled]]

    @property
    def tokens(self) -> Sequence[int]:
        """Its token ids."""
        return self.asked.rows[self.text]


class MaskLane:
    """Texts whose masks are filled; see `lanes.Lane`."""

    kind = "mask"
    streams = 1

    def __init__(self, filler: MaskFiller, session: Session, token_budget: int) -> None:
        """An empty lane; see `TextLane`."""
        self.queue: DueQueue[MaskItem] = DueQueue()
        self.rate = Rate(_SECONDS_A_TOKEN)
        self.token_budget = token_budget
        self._filler = filler
        self._session = session

    def backlog(self) -> bool:
        """See `Lane`."""
        return False

    def form(self) -> Batch:
        """See `Lane`."""
        rows = [item.payload.tokens for item in islice(self.queue, _LOOK_AHEAD_TEXTS)]
        chosen = choose(list(self._filler.plan(rows, self.token_budget)), self.token_budget)
        places = sorted(text for row in chosen for text in row.texts)
        return self._batch(self.queue.take(places))

    def group(self, items: Sequence[Item[MaskItem]]) -> list[Batch]:
        """See `Lane`."""
        return [self._batch([item]) for item in items]

    def _batch(self, items: Sequence[Item[MaskItem]]) -> Batch:
        payloads = [item.payload for item in items]
        rows = [each.tokens for each in payloads]
        masks = [each.asked.masks[each.text] for each in payloads]
        tokens = sum(map(len, rows))
        laid_out: list[MaskedBatch] = []

        def prepare() -> None:
            plans = self._filler.plan(rows, self.token_budget)
            laid_out[:] = [self._filler.lay_out(plan, rows, masks) for plan in plans]

        def compute() -> None:
            for batch in laid_out:
                (logits,) = self._session.run(["logits"], batch.inputs)
                for text, nth, each in zip(batch.texts, batch.nth, logits[batch.row, batch.place], strict=True):
                    payload = payloads[text]
                    payload.into[nth] = self._filler.words(payload.asked, payload.text, int(nth), each)

        return Batch(items, tokens, tokens, self.rate, True, prepare, compute)
