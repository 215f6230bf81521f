"""vocab.txt and tokenizer_config.json → the tokenizer files of a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from export.errors import CheckpointError

__all__ = ["SPECIAL_TOKENS", "write_tokenizer"]

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def write_tokenizer(checkpoint: Path, config: dict[str, Any], out: Path) -> list[str]:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json.

    The result is the BERT tokenizer that the checkpoint describes. References to code and to the training machine's
    folders in the checkpoint's files are left out.

    Args:
        checkpoint: folder with vocab.txt and tokenizer_config.json.
        config: the parsed config.json.
        out: an existing folder.

    Returns:
        The names of the files written.

    Raises:
        CheckpointError: the vocabulary's size is not the model's, tokens occur twice, special tokens are missing.
    """
    try:
        settings = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{checkpoint / 'tokenizer_config.json'} is not a valid JSON object.")
    vocabulary = _read_vocabulary(checkpoint / "vocab.txt", config["vocab_size"])
    special = {name: _content(settings.get(name, default)) for name, default in SPECIAL_TOKENS.items()}
    missing = [token for token in special.values() if token not in vocabulary]
    if missing:
        raise CheckpointError(f"{checkpoint / 'vocab.txt'} lacks the special tokens {', '.join(missing)}.")
    if vocabulary[special["pad_token"]] != config.get("pad_token_id", 0):
        raise CheckpointError(
            f"{checkpoint / 'vocab.txt'} has {special['pad_token']} at {vocabulary[special['pad_token']]}, but "
            f"config.json says pad_token_id={config.get('pad_token_id', 0)}."
        )
    lowercase = settings.get("do_lower_case", True)
    chinese = settings.get("tokenize_chinese_chars", True)
    strip_accents = settings.get("strip_accents")

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk_token"], max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special.values()])
    cls_token, sep_token = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls_token}:0 $A:0 {sep_token}:0",
        pair=f"{cls_token}:0 $A:0 {sep_token}:0 $B:1 {sep_token}:1",
        special_tokens=[(cls_token, vocabulary[cls_token]), (sep_token, vocabulary[sep_token])],
    )
    tokenizer.save(str(out / "tokenizer.json"))
    published = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lowercase,
        "tokenize_chinese_chars": chinese,
        "strip_accents": strip_accents,
        "model_max_length": config["max_position_embeddings"],
        **special,
    }
    _write_json(out / "tokenizer_config.json", published)
    _write_json(out / "special_tokens_map.json", special)
    return ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]


def _read_vocabulary(path: Path, size: int) -> dict[str, int]:
    try:
        with path.open(encoding="utf-8") as stream:
            tokens = [line.rstrip("\n") for line in stream]
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8: {error}") from None
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        seen: set[str] = set()
        twice = [token for token in tokens if token in seen or seen.add(token)]
        raise CheckpointError(f"{path} lists tokens twice: {', '.join(map(repr, twice[:10]))}.")
    if len(tokens) != size:
        raise CheckpointError(f"{path} has {len(tokens):,} tokens; config.json says vocab_size={size:,}.")
    return vocabulary


def _content(token: Any) -> str:
    """A special token is written as a string or as an object with its content."""
    return str(token["content"] if isinstance(token, dict) else token)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
