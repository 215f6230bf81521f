"""Texts → embeddings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from runtime.batching import pad_batch, plan_batches
from runtime.errors import InputError
from runtime.manifest import TextPart
from runtime.session import Session
from runtime.tokenization import Tokenizer

__all__ = ["TextEncoder"]

# Padded tokens in one batch: enough to keep the matrix products busy, little enough to stay in cache. Measured with
# ONNX Runtime on 2 cores, 60 notes of about 110 tokens: 512 takes 9.7 s, 1,024 11.0, 2,048 12.8 and 4,096 14.4.
_TOKEN_BUDGET = 512


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
        rows = self.tokenizer.encode(list(texts))
        embeddings = np.empty((len(rows), self.embedding_size), dtype=np.float32)
        output = "text_embeds" if normalize else "cls_projected_embedding"
        for batch in plan_batches([len(row) for row in rows], _TOKEN_BUDGET):
            input_ids, attention_mask = pad_batch([rows[index] for index in batch], self.tokenizer.pad_token_id)
            embeddings[batch] = self._session.run([output], {"input_ids": input_ids, "attention_mask": attention_mask})[
                0
            ]
        return embeddings
