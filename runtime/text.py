"""Texts → embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from runtime.batching import pad_batch, plan_batches
from runtime.errors import Fault, InputError
from runtime.manifest import TextPart
from runtime.session import Session
from runtime.tokenization import Tokenizer

__all__ = ["TextEncoder"]

# Padded tokens in one batch: enough to keep the matrix products busy, little enough to stay in cache. Measured with
# ONNX Runtime on 2 cores, 60 notes of about 110 tokens: 512 takes 9.7 s, 1,024 11.0, 2,048 12.8 and 4,096 14.4.
_TOKEN_BUDGET = 512
# Texts that `encode_iter` holds at a time: enough to fill batches of like lengths.
_WINDOW = 2048


class TextEncoder:
    """The text half of an engine.

    Attributes:
        tokenizer: the bundle's tokenizer.
        embedding_size: length of an embedding (128 for CXR-BERT).
    """

    def __init__(self, part: TextPart, session: Session, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.embedding_size = part.embedding_size
        self._session = session

    def encode(self, texts: str | Iterable[str], *, normalize: bool = True) -> NDArray[np.float32]:
        """Embed one text or many in the space shared with images.

        Each row is the projected [CLS] embedding of one text (Boecking et al., ECCV 2022, section 2; reference:
        `TextInferenceEngine.get_embeddings_from_prompt`). Trailing "!?." are ignored, as there.

        Args:
            texts: a string, or any number of strings in any order. An empty string is a text of no words.
            normalize: divide each row by its L2 norm. Average several prompts before normalizing: pass False.

        Returns:
            float32 (N, 128), row i for text i; unit L2 norm unless `normalize` is False.

        Raises:
            InputError: no texts, items that are no strings, special tokens other than [MASK] in a text, texts of more
                than 512 tokens. All bad texts are listed together, none is computed.
        """
        if isinstance(texts, str):
            texts = [texts]
        elif not isinstance(texts, Iterable):
            raise InputError(f"A {type(texts).__name__} came where texts are expected: a str or a list of str.")
        return self._embed(self.tokenizer.encode(list(texts)), normalize)

    def _embed(self, rows: list[list[int]], normalize: bool) -> NDArray[np.float32]:
        embeddings = np.empty((len(rows), self.embedding_size), dtype=np.float32)
        output = "text_embeds" if normalize else "cls_projected_embedding"
        for batch in plan_batches([len(row) for row in rows], _TOKEN_BUDGET):
            input_ids, attention_mask = pad_batch([rows[index] for index in batch], self.tokenizer.pad_token_id)
            embeddings[batch] = self._session.run([output], {"input_ids": input_ids, "attention_mask": attention_mask})[
                0
            ]
        return embeddings

    def encode_iter(
        self,
        texts: Iterable[str],
        *,
        normalize: bool = True,
        on_fault: Callable[[Fault], None] | None = None,
    ) -> Iterator[NDArray[np.float32] | None]:
        """Embed any number of texts, in order and in bounded memory.

        Args:
            texts: strings, taken as embeddings are consumed; nothing is taken before the first is asked for.
            normalize: as for `encode`.
            on_fault: called with each text that cannot be used (`Fault.index` counts from the first text); its
                embedding is None. Without it such a text raises InputError.

        Yields:
            float32 (128,) for each text, in the order given.

        Raises:
            InputError: as for `encode`, but an empty iterable yields nothing.
        """
        start = 0
        remaining = iter(texts)
        while window := list(islice(remaining, _WINDOW)):
            rows, faults = self.tokenizer.try_encode(window)
            faults = [Fault(start + fault.index, fault.name, fault.reason) for fault in faults]
            if faults:
                if on_fault is None:
                    raise InputError.from_faults("texts", faults, start + len(window))
                for fault in faults:
                    on_fault(fault)
            bad = {fault.index - start for fault in faults}
            good = [index for index in range(len(window)) if index not in bad]
            embeddings = self._embed([rows[index] for index in good], normalize)
            found = dict(zip(good, embeddings, strict=True))
            yield from (found.get(index) for index in range(len(window)))
            start += len(window)
