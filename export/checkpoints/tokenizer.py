"""The tokenizer files of a checkpoint → those of a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from export.checkpoints.added_tokens import add_to
from export.checkpoints.vocabulary import read_vocabulary

__all__ = ["write_json", "write_tokenizer"]


def write_tokenizer(
    checkpoint: Path,
    config: dict[str, Any],
    out: Path,
    *,
    longest: int | None = None,
    lowercase: bool | None = None,
    lowercase_before: bool = False,
) -> list[str]:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json.

    The result is the BERT tokenizer that the checkpoint describes. References to code and to the training machine's
    folders in the checkpoint's files are left out.

    Args:
        checkpoint: folder with the files that `read_vocabulary` reads.
        config: the parsed config.json.
        out: an existing folder.
        longest: most tokens of a text, for other tools; None takes the model's positions.
        lowercase: instead of what the files say.
        lowercase_before: whether texts are lower-cased first of all, accents kept.

    Returns:
        The names of the files written.

    Raises:
        CheckpointError: see `read_vocabulary`.
    """
    files = read_vocabulary(checkpoint, config)
    if lowercase is not None:
        files = replace(files, lowercase=lowercase)
    special = dict(files.special)
    tokenizer = Tokenizer(
        models.WordPiece(dict(files.tokens), unk_token=special["unk_token"], max_input_chars_per_word=100)
    )
    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=files.chinese,
        strip_accents=files.strip_accents,
        lowercase=files.lowercase,
    )
    before = [normalizers.Lowercase()] if lowercase_before and not files.lowercase else []
    tokenizer.normalizer = normalizers.Sequence([*before, normalizer]) if before else normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    add_to(tokenizer, files.added)
    cls_token, sep_token = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls_token}:0 $A:0 {sep_token}:0",
        pair=f"{cls_token}:0 $A:0 {sep_token}:0 $B:1 {sep_token}:1",
        special_tokens=[(cls_token, files.ids[cls_token]), (sep_token, files.ids[sep_token])],
    )
    tokenizer.save(str(out / "tokenizer.json"))
    published = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": files.lowercase,
        "tokenize_chinese_chars": files.chinese,
        "strip_accents": files.strip_accents,
        "model_max_length": longest or config["max_position_embeddings"],
        **special,
    }
    write_json(out / "tokenizer_config.json", published)
    write_json(out / "special_tokens_map.json", special)
    return ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]


def write_json(path: Path, data: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a settings file as the hub has them."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
