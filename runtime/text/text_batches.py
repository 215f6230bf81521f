"""Tokenized texts in batches: which texts are computed together, what the graph reads, and what it gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Session, Sessions
from runtime.text.batching import pad_batch, plan_batches
from runtime.text.packing import Row, pack_batch, plan_packed, widest_row

__all__ = ["TextBatch", "TextBatches", "run_batch"]


@dataclass(frozen=True)
class TextBatch:
    """A batch, laid out.

    Attributes:
        inputs: of the graph, int64.
        found: where in the output the results stand: result i belongs to texts[i].
        texts: intp (texts,), indices of the texts.
    """

    inputs: dict[str, NDArray[np.int64]]
    found: tuple[NDArray[np.intp], ...]
    texts: NDArray[np.intp]


class TextBatches:
    """Plans batches of tokenized texts and lays them out for the graph.

    Attributes:
        token_budget: tokens in one batch, padding counted; a longer text has a batch of its own.
        sessions: of the graph.
        packed: whether the graph takes several texts a row.
        pad_token_id: what fills rows.
        longest: tokens of the longest text.
    """

    def __init__(
        self, sessions: Sessions, packed: bool, token_budget: int, pad_token_id: int, longest: int, pooling: str
    ) -> None:
        """Put the parts together.

        Args:
            sessions: of the graph.
            packed: whether the graph takes several texts a row.
            token_budget: see above, at least 1.
            pad_token_id: id to fill with.
            longest: tokens of the longest text.
            pooling: see `TextPart.pooling`.
        """
        self.sessions = sessions
        self.token_budget = token_budget
        self.packed = packed
        self.pad_token_id = pad_token_id
        self.longest = longest
        self._pooling = pooling

    def plan(self, lengths: Sequence[int], token_budget: int | None = None) -> Iterator[tuple[Row, ...]]:
        """Which texts are computed together.

        Args:
            lengths: number of tokens of each text.
            token_budget: another one than `token_budget`.

        Yields:
            The rows of a batch, of one width, with a single text each unless the graph takes several; every text is in
            exactly one.
        """
        budget = self.token_budget if token_budget is None else token_budget
        if self.packed:
            yield from plan_packed(lengths, budget, widest_row(self.longest))
        else:
            for batch in plan_batches(lengths, budget):
                yield tuple(Row(lengths[batch[0]], (index,)) for index in batch.tolist())

    def lay_out(self, batch: Sequence[Row], tokens: Sequence[Sequence[int]]) -> TextBatch:
        """What the graph reads.

        Args:
            batch: of `plan`.
            tokens: token ids of every text, special tokens among them.
        """
        if self.packed:
            packed = pack_batch(batch, tokens, self.pad_token_id, self._pooling)
            return TextBatch(packed.inputs, (packed.row, packed.place), packed.texts)
        texts = np.array([row.texts[0] for row in batch], dtype=np.intp)
        input_ids, attention_mask = pad_batch([tokens[index] for index in texts], self.pad_token_id)
        return TextBatch({"input_ids": input_ids, "attention_mask": attention_mask}, (np.arange(len(texts)),), texts)


def run_batch(session: Session, batch: TextBatch, output: str) -> NDArray[np.float32]:
    """Compute a batch.

    Args:
        session: of the graph.
        batch: laid out.
        output: "text_embeds" or "unnormalized_embeds".

    Returns:
        float32 (texts, D), row i for the batch's texts[i].
    """
    return session.run([output], batch.inputs)[0][batch.found]
