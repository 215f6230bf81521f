"""Embeddings of texts that come again."""

from __future__ import annotations

import hashlib
import secrets
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.process.forks import ForkSafeLock, generation

__all__ = ["TEXT_CACHE", "EmbeddingCache"]

# Texts kept by default: 4,096 embeddings of 128 numbers take 3 MB.
TEXT_CACHE = 4096
_PERSONS = {"text_embeds": b"unit norm", "unnormalized_embeds": b"any norm"}
# A call of at least so many tokens is a corpus, which would push out the texts that do come again. The sum of its
# lengths is all that the cache costs it.
_CORPUS_TOKENS = 8192


class EmbeddingCache:
    """The embeddings of the texts that were asked for last, by a digest of their tokens: the texts are not kept.

    A text found is the very bytes that were computed for it first. (Computed again in a batch of another shape it may
    differ in the last bits.) May be used from any thread; in a forked child it begins empty.

    Attributes:
        size: texts that are kept, one for normalized and one for unnormalized embeddings; 0 keeps none.
        hits: texts found so far.
    """

    def __init__(self, size: int) -> None:
        """Nothing is kept yet.

        Args:
            size: see above, at least 0.
        """
        self.size = size
        self.hits = 0
        self._kept: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._secret = secrets.token_bytes(32)
        self._lock = ForkSafeLock()
        self._generation = generation()

    def __len__(self) -> int:
        return len(self._kept)

    def suits(self, rows: Sequence[Sequence[int]]) -> bool:
        """Whether a call with these token ids is looked up and kept: not where nothing is, and not a corpus."""
        return self.size > 0 and sum(map(len, rows)) < _CORPUS_TOKENS

    def find(self, output: str, rows: Sequence[Sequence[int]], into: NDArray[np.float32]) -> list[int]:
        """Fill in the embeddings that are kept.

        Args:
            output: of the graph: "text_embeds" or "unnormalized_embeds".
            rows: token ids of each text, special tokens among them.
            into: float32 (texts, D), written where a text is found.

        Returns:
            Positions of the texts that have to be computed, in order.
        """
        keys = [self._key(output, row) for row in rows]
        wanted: list[int] = []
        with self._lock:
            if self._generation != generation():
                self._generation = generation()
                self._kept.clear()
            for index, key in enumerate(keys):
                found = self._kept.get(key)
                if found is None:
                    wanted.append(index)
                else:
                    self._kept.move_to_end(key)
                    into[index] = found
            self.hits += len(keys) - len(wanted)
        return wanted

    def keep(self, output: str, rows: Sequence[Sequence[int]], embeddings: Iterable[NDArray[np.float32]]) -> None:
        """Keep what was computed; what is kept already stays, and the texts not asked for longest are dropped.

        Args:
            output: see `find`.
            rows: see `find`.
            embeddings: float32 (D,) for each.
        """
        fresh = [(self._key(output, row), each.copy()) for row, each in zip(rows, embeddings, strict=True)]
        with self._lock:
            for key, embedding in fresh:
                self._kept.setdefault(key, embedding)
                self._kept.move_to_end(key)
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)

    def _key(self, output: str, row: Sequence[int]) -> bytes:
        return hashlib.blake2b(array("i", row), digest_size=16, key=self._secret, person=_PERSONS[output]).digest()
