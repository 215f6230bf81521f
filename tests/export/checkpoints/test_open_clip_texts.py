"""How open_clip reads texts, by its configuration: what `open_clip.get_tokenizer` returns is the reference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from export.checkpoints.layouts.open_clip_texts import open_clip_tokenization
from export.errors import CheckpointError

CONFIGS: list[dict[str, Any]] = [
    {},
    {"context_length": 32},
    {"context_length": None, "tokenizer_kwargs": {"clean": "lower"}},
    {
        "hf_model_name": "bert",
        "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "context_length": 256,
    },
    {
        "hf_model_name": "bert",
        "hf_tokenizer_name": "bert",
        "tokenizer_kwargs": {"strip_sep_token": False},
        "tokenizer_mode": None,
    },
]


@pytest.mark.parametrize("text_cfg", CONFIGS, ids=str)
def test_as_open_clip_chooses(tiny_checkpoint: Path, tmp_path: Path, text_cfg: dict[str, Any]) -> None:
    from open_clip import get_tokenizer
    from open_clip.tokenizer import HFTokenizer, _clean_lower, _clean_whitespace

    for name in ("vocab.txt", "special_tokens_map.json"):
        shutil.copy(tiny_checkpoint / name, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text_cfg}}))
    upstream = get_tokenizer(f"local-dir:{tmp_path}")
    rules = open_clip_tokenization(tmp_path / "open_clip_config.json", text_cfg)
    of_hub = isinstance(upstream, HFTokenizer)
    assert rules.tokenizer == ("wordpiece" if of_hub else "bpe")
    assert upstream.clean_fn is (_clean_whitespace if of_hub else _clean_lower)
    assert rules.cleaning == "ftfy"
    shape = upstream("word " * 400, context_length=rules.max_length).shape
    assert (rules.too_long, (1, rules.max_length)) == ("cut", tuple(shape))
    if text_cfg.get("context_length"):
        assert upstream.context_length == rules.max_length


@pytest.mark.parametrize(
    ("text_cfg", "message"),
    [
        (
            {"tokenizer_kwargs": {"clean": "canonicalize", "reduction_mask": "simple"}},
            r"SimpleTokenizer with clean='canonicalize', reduction_mask='simple', which cannot be exported",
        ),
        ({"hf_tokenizer_name": "x", "tokenizer_kwargs": {"strip_sep_token": True}}, "with strip_sep_token=True"),
        ({"hf_tokenizer_name": "x", "tokenizer_mode": "clips"}, "tokenizer_mode='clips'"),
        ({"hf_tokenizer_name": "x", "tokenizer_kwargs": {"language": "de"}}, "language='de'"),
        ({"hf_tokenizer_name": "t5"}, "hf_tokenizer_name='t5' for open_clip's own text tower"),
        ({"hf_model_name": "bert"}, "hf_tokenizer_name=None for a text model of the hub"),
        ({"context_length": "77"}, "context_length='77'"),
    ],
)
def test_what_cannot_be_exported(text_cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_clip_tokenization(Path("open_clip_config.json"), text_cfg)
