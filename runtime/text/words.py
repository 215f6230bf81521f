"""Texts → embeddings of their words: pieces of a word are added up, as GLoRIA does.

Source: GLoRIA, `gloria/models/text_model.py` (`BertEncoder.aggregate_tokens`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Sessions
from runtime.errors import InputError
from runtime.process.forks import ForkSafeLock
from runtime.text.batching import pad_batch, plan_batches
from runtime.text.tokenization import Tokenizer

__all__ = ["EmbeddedWords", "WordEncoder"]

_PIECE = "##"


@dataclass(frozen=True)
class EmbeddedWords:
    """A text and its words.

    Attributes:
        words: as the tokenizer writes them, pieces joined; without [CLS] and [SEP].
        embeds: float32 (2 + words, D): [CLS], the words, [SEP]; not normalized.
        text_embed: float32 (D,), unit L2 norm: what `TextEncoder.encode` gives.
    """

    words: tuple[str, ...]
    embeds: NDArray[np.float32]
    text_embed: NDArray[np.float32]


class WordEncoder:
    """Embeds words, on a graph that is opened when it is first needed."""

    def __init__(self, tokenizer: Tokenizer, open_sessions: Callable[[], Sessions], token_budget: int) -> None:
        """Put the parts together.

        Args:
            tokenizer: the bundle's.
            open_sessions: opens the graph that embeds tokens.
            token_budget: tokens in one batch, padding counted.
        """
        self._tokenizer = tokenizer
        self._open_sessions = open_sessions
        self._token_budget = token_budget
        self._opened: Sessions | None = None
        self._lock = ForkSafeLock()

    def encode(self, texts: Sequence[str]) -> list[EmbeddedWords]:
        """Embed texts and their words, in order.

        Raises:
            InputError: texts that `TextEncoder.encode` refuses; all of them are listed together.
            BundleError: the bundle has no graph for it, in this precision on this provider.
        """
        if not len(texts):
            raise InputError("The list of texts is empty; at least one text is expected.")
        rows = self._tokenizer.encode(texts)
        found: dict[int, EmbeddedWords] = {}
        session = self._sessions().single
        for batch in plan_batches([len(row) for row in rows], self._token_budget):
            input_ids, attention_mask = pad_batch([rows[index] for index in batch], self._tokenizer.pad_token_id)
            feed = {"input_ids": input_ids, "attention_mask": attention_mask}
            embedded, tokens = session.run(["text_embeds", "token_embeds"], feed)
            for index, text_embed, states in zip(batch.tolist(), embedded, tokens, strict=True):
                words, embeds = self._joined(rows[index], states)
                found[index] = EmbeddedWords(words, embeds, text_embed.copy())
        return [found[index] for index in range(len(rows))]

    def _joined(self, row: list[int], states: NDArray[np.float32]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        tokens = [self._tokenizer.token(index) for index in row]
        starts = [place for place, token in enumerate(tokens) if not token.startswith(_PIECE) or not place]
        embeds = np.add.reduceat(states[: len(row)], starts, axis=0)
        words = [
            tokens[start] + "".join(token.removeprefix(_PIECE) for token in tokens[start + 1 : end])
            for start, end in zip(starts, [*starts[1:], len(row)], strict=True)
        ]
        return tuple(words[1:-1]), embeds

    def _sessions(self) -> Sessions:
        with self._lock:
            if self._opened is None:
                self._opened = self._open_sessions()
            return self._opened
