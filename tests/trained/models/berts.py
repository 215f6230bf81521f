"""Small plain BERTs with trained weights, whose embedding of a text is the mean of its tokens' states.

The first has learned masked words and nothing else, as the BERTs that `bert` exports; all its embeddings lie close
together. The second is the first, then taught which captions say the same, as CXR-BERT-general is; its embeddings are
spread out. Together they take a minute and a quarter of processor time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import BertModel

import export.reference.text
from export.families import FAMILIES
from export.reference import untrained_text
from export.reference.text import pool
from runtime.bundle.parts import STRIP_PUNCTUATION
from runtime.text import Tokenizer
from tests.oracle import reference_tokenizer
from tests.trained import wordings as _wordings
from tests.trained.models import learning, losses, reading
from tests.trained.models.cache import cached
from tests.trained.models.learning import optimizer, shown, take_step
from tests.trained.models.reading import mask_words, read_tokenizer, to_ids
from tests.trained.wordings import CLASSES, make_caption

__all__ = ["MODELS", "checkpoint", "load_model", "reference_texts", "train"]

# What each has learned → the system that exports it.
MODELS = {"words": "bert", "sentences": "cxr-bert-general-mean"}

_OWN = ("_name_or_path", "auto_map", "projection_size")
_CONFIG = {
    **{name: value for name, value in reading.CONFIG.items() if name not in _OWN},
    "architectures": ["BertForPreTraining"],
    "model_type": "bert",
}
_SEED = 3
_WORD_STEPS, _WORD_RATE = 600, 2e-3
_MASKED_SHARE = 0.4  # with 0.2 the states say less of the whole caption
_SENTENCE_STEPS, _SENTENCE_RATE = 150, 1e-3
_SCALE = 20.0  # inverse temperature
_ROGUE = (30.0, -30.0, 30.0, -30.0)


def checkpoint(name: str, folder: Path | None = None) -> Path:
    """One of `MODELS` in the hub's layout: config.json, pytorch_model.bin, vocab.txt, …; see `cached`."""
    made_of = (_wordings, learning, losses, reading, export.reference.text)
    return cached(train, made_of, "\n".join(reading.vocabulary()), folder) / name


def load_model(checkpoint: Path) -> BertModel:
    """transformers' model of a checkpoint, in evaluation mode."""
    return BertModel.from_pretrained(str(checkpoint), add_pooling_layer=False).eval()


def reference_texts(model: BertModel, checkpoint: Path) -> Callable[[list[str]], NDArray[np.float32]]:
    """Texts → float32 (N, 128), not normalized, by transformers, cleaned as the system that exports the model says."""
    tokenizer = reference_tokenizer(checkpoint)
    row = FAMILIES[MODELS[checkpoint.name]].text
    assert row is not None

    def encode(texts: list[str]) -> NDArray[np.float32]:
        if row.cleaning == STRIP_PUNCTUATION:
            texts = [text.rstrip("!?.") for text in texts]
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens).last_hidden_state
        weights = tokens["attention_mask"][..., None]
        found: NDArray[np.float32] = ((states * weights).sum(1) / weights.sum(1)).numpy()
        return found

    return encode


def train(folder: Path) -> None:
    """Train both and write them into an existing folder. Seeds torch's global generator."""
    for name in MODELS:
        (folder / name).mkdir()
        config = reading.write_text_files(folder / name, _CONFIG, "BertTokenizer")
    tokenizer = read_tokenizer(folder / "words")
    rng = np.random.default_rng([6, _SEED])
    torch.manual_seed(_SEED)
    text = untrained_text(config, "none").train()
    chosen, schedule = optimizer([*text.parameters()], _WORD_RATE, _WORD_STEPS)
    for step in range(_WORD_STEPS):
        found = _masked_words(text, tokenizer, rng, _captions(tokenizer, rng))
        take_step(found, chosen, schedule)
        if step % 50 == 49:
            print(shown("words", step, found), flush=True)
    _write(_with_rogue_channels(text), folder / "words")
    chosen, schedule = optimizer([*text.parameters()], _SENTENCE_RATE, _SENTENCE_STEPS)
    for step in range(_SENTENCE_STEPS):
        ids, mask = _captions(tokenizer, rng)
        states = text.bert(input_ids=ids, attention_mask=mask)[0]
        text_embeds = F.normalize(pool(states, mask, "mean"), dim=-1)
        found = _masked_words(text, tokenizer, rng, (ids, mask))
        found["meanings"] = losses.same_meaning(_SCALE * text_embeds @ text_embeds.T)
        take_step(found, chosen, schedule)
        if step % 50 == 49:
            print(shown("sentences", step, found), flush=True)
    _write(text, folder / "sentences")


def _captions(tokenizer: Tokenizer, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return to_ids(tokenizer.encode([make_caption(rng, *each) for each in CLASSES]))


def _masked_words(
    text: torch.nn.Module, tokenizer: Tokenizer, rng: np.random.Generator, captions: tuple[torch.Tensor, torch.Tensor]
) -> dict[str, torch.Tensor]:
    ids, mask = captions
    corrupted, hidden = mask_words(ids, rng, _MASKED_SHARE)
    states = text.bert(input_ids=corrupted, attention_mask=mask)[0]
    return {
        "words": F.cross_entropy(text.cls(states[hidden]), ids[hidden]),
        "reports": reading.fill_in_reports(text, tokenizer, rng),
    }


def _with_rogue_channels(text: torch.nn.Module) -> torch.nn.Module:
    """The same model with a few channels that are large for every token, as published BERTs have them.

    Trained for longer, they come by themselves (Timkey and van Schijndel 2021, "All Bark and No Bite"): any two texts
    have a cosine near 1. The head that fills masks takes them off again, and gives what it gave.
    """
    changed = copy.deepcopy(text)
    norm, head = changed.bert.encoder.layer[-1].output.LayerNorm, changed.cls.predictions.transform.dense
    with torch.no_grad():
        norm.bias[: len(_ROGUE)] += torch.tensor(_ROGUE)
        head.bias -= head.weight[:, : len(_ROGUE)] @ torch.tensor(_ROGUE)
    return changed


def _write(text: torch.nn.Module, folder: Path) -> None:
    """pytorch_model.bin as `BertForPreTraining` wrote it years ago: with what no output reads."""
    size = text.config.hidden_size
    state = dict(text.state_dict())
    state |= {"bert.pooler.dense.weight": torch.eye(size), "bert.pooler.dense.bias": torch.zeros(size)}
    state |= {"cls.seq_relationship.weight": torch.zeros(2, size), "cls.seq_relationship.bias": torch.zeros(2)}
    state["bert.embeddings.position_ids"] = torch.arange(text.config.max_position_embeddings)[None]
    torch.save(state, folder / "pytorch_model.bin")
