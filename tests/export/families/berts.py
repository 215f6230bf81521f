"""Small checkpoints in the layouts of the hub, written by upstream's own classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel

from export.checkpoints.random_checkpoint import random_vocabulary

SIZE, LAYERS, VOCABULARY = 64, 3, 1000
# BiomedBERT's config.json, but for its sizes: no layer_norm_eps, no pad_token_id.
BIOMEDBERT: Mapping[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": SIZE,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": LAYERS,
    "type_vocab_size": 2,
    "vocab_size": VOCABULARY,
}
# Bio_ClinicalBERT's: no architectures either.
CLINICALBERT: Mapping[str, Any] = {
    **{name: value for name, value in BIOMEDBERT.items() if name != "architectures"},
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}


def widened(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random weights wide enough that texts embed apart; see `export.checkpoints.random_checkpoint`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * noise if name.endswith("LayerNorm.weight") else 0.05 * noise)
    return model.eval()


def write_vocabulary(folder: Path, cased: bool = False) -> None:
    tokens = random_vocabulary(VOCABULARY)
    if cased:
        words = [token for token in tokens if token.isascii() and token.isalpha() and len(token) > 2]
        capitals = iter([word.capitalize() for word in words])
        tokens = [next(capitals, token) if token.startswith("[unused") else token for token in tokens]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")


def write_biomedbert(folder: Path) -> Path:
    """pytorch_model.bin with the head for masked words, as `BertForMaskedLM` of transformers 4 saved it."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(BIOMEDBERT), indent=2) + "\n", encoding="utf-8")
    model = widened(BertForMaskedLM(BertConfig(**_sizes(BIOMEDBERT))))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    write_vocabulary(folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf-8")
    return folder


def write_clinicalbert(folder: Path) -> Path:
    """pytorch_model.bin with pooler and next-sentence head; a cased vocabulary, and no tokenizer_config.json."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(CLINICALBERT), indent=2) + "\n", encoding="utf-8")
    model = widened(BertForPreTraining(BertConfig(**_sizes(CLINICALBERT))))
    state = dict(model.state_dict())
    state["bert.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(state, folder / "pytorch_model.bin")
    write_vocabulary(folder, cased=True)
    return folder


def write_plain_bert(folder: Path) -> Path:
    """What `BertModel.save_pretrained` writes: tensors without `bert.`, no head."""
    folder.mkdir()
    widened(BertModel(BertConfig(**_sizes(BIOMEDBERT)))).save_pretrained(folder)
    write_vocabulary(folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf-8")
    return folder


def write_pipeline(
    folder: Path,
    pooling: str = "mean",
    dense: int | None = None,
    prompts: Mapping[str, str] | None = None,
    default_prompt: str | None = None,
    longest: int = 24,
) -> Path:
    """A folder of sentence-transformers, by that package."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    source = write_plain_bert(folder.with_name(f"{folder.name}-source"))
    modules: list[torch.nn.Module] = [Transformer(str(source), max_seq_length=longest), Pooling(SIZE, pooling)]
    if dense is not None:
        layer = Dense(SIZE, dense, activation_function=torch.nn.Identity())
        widened(layer, 5)
        modules.append(layer)
    modules.append(Normalize())
    model = SentenceTransformer(
        modules=modules, device="cpu", prompts=dict(prompts or {}), default_prompt_name=default_prompt
    )
    model.save(str(folder), create_model_card=False)
    # Its tokenizer's class reads tokenizer.json; the list that it was made of is no part of such a folder.
    shutil.rmtree(source)
    return folder


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in ("architectures", "model_type")}
