"""Compare graphs that embed every token with the reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from export.proof.parity import max_abs, min_cosine, parity_record, worst
from export.reference import TextReference
from export.samples import SENTENCES
from runtime.bundle import ParityRecord
from runtime.engines import Session
from runtime.text import Tokenizer, pad_batch

__all__ = ["words_parity"]

# What int8 does to single tokens depends on the weights and is reported only.
_GATES: Mapping[str, Mapping[str, float]] = {
    "fp32": {"max_abs_words": 1e-5, "max_abs": 1e-5},
    "fp16": {"min_cosine_words": 0.9995},
}


def words_parity(
    session: Session, provider: str, precision: str, reference: TextReference, tokenizer: Tokenizer
) -> ParityRecord:
    """Compare the states of all tokens of sentences, in one padded batch and alone.

    Args:
        session: the opened graph.
        provider: what runs it.
        precision: of the artifact; picks the gates.
        reference: upstream's model.
        tokenizer: the bundle's.

    Returns:
        Figures: max_abs_words (relative to the largest value), min_cosine_words; max_abs of the texts' embeddings.
    """
    rows = tokenizer.encode(SENTENCES)
    figures: dict[str, list[float]] = {"max_abs_words": [], "min_cosine_words": [], "max_abs": []}
    for batch in (rows, *([row] for row in rows[:4])):
        input_ids, attention_mask = pad_batch(batch, tokenizer.pad_token_id)
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        texts, tokens = session.run(["text_embeds", "token_embeds"], feed)
        given = torch.from_numpy(input_ids), torch.from_numpy(attention_mask)
        kept = attention_mask > 0
        expected = reference.token_states(*given).numpy()[kept]
        figures["max_abs_words"].append(max_abs(tokens[kept], expected) / float(np.abs(expected).max()))
        figures["min_cosine_words"].append(min_cosine(tokens[kept], expected))
        embedded = torch.nn.functional.normalize(reference.embed(*given), dim=-1).numpy()
        figures["max_abs"].append(max_abs(texts, embedded))
    cases = f"all tokens of {len(rows)} sentences in one padded batch, and of 4 alone"
    return parity_record(provider, reference.name, cases, worst(figures), _GATES.get(precision, {}))
