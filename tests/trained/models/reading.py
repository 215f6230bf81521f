"""BERTs of the size of the trained models: their tokenizer's files, and what they learn of words alone."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from export.checkpoints.random_checkpoint import CXR_BERT_CONFIG, random_vocabulary
from export.checkpoints.tokenizer import write_tokenizer
from export.checkpoints.vocabulary import SPECIAL_TOKENS
from runtime.text import Tokenizer
from tests.runtime.parts import tokenization
from tests.trained.wordings import CLASSES, FINDINGS, LOCATIONS, make_caption, make_impression, words

__all__ = ["CONFIG", "fill_in_reports", "mask_words", "read_tokenizer", "to_ids", "vocabulary", "write_text_files"]

CONFIG = {
    **CXR_BERT_CONFIG,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
    # With BERT's 0.02 and dropout, so small a model needs many times as long before it tells captions apart.
    "initializer_range": 0.05,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}

_REPORTED = [(finding, place) for finding, place in CLASSES if finding in FINDINGS and place]
_MASKED_SHARE = 0.2
# Of reports: words that the other sentence tells, and all others.
_TELLING_SHARE, _OTHER_SHARE = 0.4, 0.1


@functools.cache
def vocabulary() -> list[str]:
    """That of random weights, less the unused entries, and all words of the captions."""
    plain = [token for token in random_vocabulary(2000) if not token.startswith("[unused")]
    return plain + sorted(words().difference(plain))


def write_text_files(folder: Path, config: dict[str, object], tokenizer_class: str) -> dict[str, object]:
    """Write config.json and the tokenizer's files; returns the configuration with its vocabulary's size."""
    tokens = vocabulary()
    config = {**config, "vocab_size": len(tokens)}
    settings = {"do_lower_case": True, "tokenizer_class": tokenizer_class, **SPECIAL_TOKENS}
    files = {"config.json": config, "tokenizer_config.json": settings, "special_tokens_map.json": SPECIAL_TOKENS}
    for name, data in files.items():
        (folder / name).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return config


def read_tokenizer(checkpoint: Path) -> Tokenizer:
    """The runtime's tokenizer, made of a checkpoint's files as an export makes it."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        write_tokenizer(checkpoint, config, Path(scratch))
        return Tokenizer(Path(scratch), tokenization(max_length=config["max_position_embeddings"]))


def to_ids(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids and attention_mask, int64 (rows, longest)."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    return ids, (ids != 0).long()


def fill_in_reports(text: torch.nn.Module, tokenizer: Tokenizer, rng: np.random.Generator) -> torch.Tensor:
    """Masked words of captions with impressions: what one sentence lacks, the other says."""
    reports = [f"{make_caption(rng, *each)} {make_impression(rng, *each)}" for each in _REPORTED]
    ids, mask = to_ids(tokenizer.encode(reports))
    corrupted, hidden = mask_words(ids, rng, torch.where(torch.isin(ids, _telling()), _TELLING_SHARE, _OTHER_SHARE))
    states = text.bert(input_ids=corrupted, attention_mask=mask)[0]
    return F.cross_entropy(text.cls(states[hidden]), ids[hidden])


def mask_words(
    ids: torch.Tensor, rng: np.random.Generator, share: torch.Tensor | float = _MASKED_SHARE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids with some replaced by [MASK], and which: int64 and bool (rows, longest)."""
    mask_id = vocabulary().index("[MASK]")
    hidden = (torch.from_numpy(rng.random(ids.shape)) < share) & (ids > mask_id)  # special tokens come first
    return ids.masked_fill(hidden, mask_id), hidden


@functools.cache
def _telling() -> torch.Tensor:
    named = {*FINDINGS, *" ".join(LOCATIONS).split()}
    return torch.tensor([vocabulary().index(word) for word in sorted(named)])
