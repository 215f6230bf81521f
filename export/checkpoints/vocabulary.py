"""What the tokenizer files of a checkpoint say, whichever of them there are.

transformers 4 wrote vocab.txt, tokenizer_config.json, special_tokens_map.json and added_tokens.json for its slow
tokenizers, and tokenizer.json besides for its fast ones; transformers 5 writes tokenizer.json and
tokenizer_config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.checkpoints.added_tokens import (
    ADDED,
    SETTINGS,
    SPECIAL,
    AddedTokenEntry,
    added_by_settings,
    added_tokens,
    among,
    check_claims,
    content_of,
    with_additional,
)
from export.checkpoints.signatures import read_json, read_text
from export.checkpoints.tokenizer_json import DEFAULTS, agreed_settings, check_settings, wordpiece_tokens
from export.errors import CheckpointError

__all__ = ["SPECIAL_TOKENS", "TOKENIZER_FILES", "WordPieceFiles", "read_vocabulary"]

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_VOCABULARY, _WHOLE = "vocab.txt", "tokenizer.json"
TOKENIZER_FILES = (_VOCABULARY, _WHOLE, SETTINGS, SPECIAL, ADDED)


@dataclass(frozen=True)
class WordPieceFiles:
    """A BERT tokenizer.

    Attributes:
        tokens: token → id, less those that were added later.
        special: role ("unk_token" …) → token.
        added: tokens that are found whole, those of `special` among them, in the order of their ids.
        lowercase: whether texts are lower-cased.
        chinese: whether Chinese characters are tokens of their own.
        strip_accents: whether accents are removed; None: where texts are lower-cased.
    """

    tokens: Mapping[str, int]
    special: Mapping[str, str]
    added: tuple[AddedTokenEntry, ...]
    lowercase: bool
    chinese: bool
    strip_accents: bool | None

    @property
    def ids(self) -> dict[str, int]:
        """Token → id, added ones included."""
        return {**self.tokens, **{entry.content: entry.index for entry in self.added}}


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> WordPieceFiles:
    """Read and compare all tokenizer files of a checkpoint.

    Args:
        folder: with tokenizer.json, or vocab.txt and tokenizer_config.json, or all of them.
        config: the parsed config.json.

    Raises:
        CheckpointError: a file cannot be read, is not that of a BERT's tokenizer, or disagrees with another one or with
            config.json; tokens occur twice; special tokens are missing.
    """
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    roles = read_json(folder / SPECIAL) if (folder / SPECIAL).is_file() else {}
    whole = read_json(folder / _WHOLE) if (folder / _WHOLE).is_file() else None
    special = {
        role: content_of(settings.get(role) or roles.get(role) or default, folder / SETTINGS)
        for role, default in SPECIAL_TOKENS.items()
    }
    has_list = (folder / _VOCABULARY).is_file()
    listed = _read_list(folder / _VOCABULARY) if has_list else None
    path = folder / (_WHOLE if whole is not None else _VOCABULARY)
    if whole is not None:
        tokens = wordpiece_tokens(path, whole, special)
        entries = added_tokens(path, whole.get("added_tokens") or [])
        chosen = agreed_settings(path, whole, folder / SETTINGS, settings, has_list)
    else:
        assert listed is not None, "one of the two files was found"
        tokens, entries = listed, added_by_settings(folder, settings, listed)
        chosen = DEFAULTS | {name: settings[name] for name in DEFAULTS if name in settings}
    check_settings(folder / SETTINGS, chosen)
    entries = with_additional(folder, tokens, entries, settings, roles)
    missing = [token for token in special.values() if token not in tokens and not among(entries, token)]
    if missing:
        raise CheckpointError(f"{path} lacks the special tokens {', '.join(missing)}.")
    entries += [
        AddedTokenEntry(token, tokens[token], normalized=False, special=True)
        for token in special.values()
        if not among(entries, token)
    ]
    files = WordPieceFiles(
        tokens,
        special,
        tuple(sorted(entries, key=lambda entry: entry.index)),
        chosen["do_lower_case"],
        chosen["tokenize_chinese_chars"],
        chosen["strip_accents"],
    )
    _check_ids(path, files, config)
    if whole is not None and listed is not None:
        _compare(folder, listed, files)
    check_claims(folder, settings, files.ids)
    return files


def _read_list(path: Path) -> dict[str, int]:
    text = read_text(path)
    if text.startswith("\ufeff"):
        raise CheckpointError(
            f"{path} begins with a byte-order mark, which would be part of its first token. Save it as UTF-8 "
            "without one."
        )
    tokens = text.removesuffix("\n").split("\n")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        first: dict[str, int] = {}
        twice = [token for index, token in enumerate(tokens) if first.setdefault(token, index) != index]
        raise CheckpointError(f"{path} lists tokens twice: {', '.join(map(repr, twice[:10]))}.")
    return vocabulary


def _check_ids(path: Path, files: WordPieceFiles, config: Mapping[str, Any]) -> None:
    ids = files.ids
    moved = [entry.content for entry in files.added if files.tokens.get(entry.content, entry.index) != entry.index]
    if moved:
        raise CheckpointError(f"{path}: the added tokens {', '.join(map(repr, moved[:10]))} have two ids.")
    if len(ids) != config["vocab_size"]:
        added = len(ids) - len(files.tokens)
        and_added = f", {added:,} added later among them" if added else ""
        raise CheckpointError(
            f"{path} has {len(ids):,} tokens{and_added}; config.json says vocab_size={config['vocab_size']:,}. "
            "The model and its tokenizer must be of the same size: call model.resize_token_embeddings(len(tokenizer)) "
            "before both are saved."
        )
    if sorted(ids.values()) != list(range(len(ids))):
        raise CheckpointError(f"{path}: the tokens' ids are not the numbers from 0 to {len(ids) - 1:,}, each once.")
    padding = config.get("pad_token_id")
    pad_token = files.special["pad_token"]
    if ids[pad_token] != (0 if padding is None else padding):
        raise CheckpointError(
            f"{path} has {pad_token} at {ids[pad_token]}, but config.json says pad_token_id={padding or 0}."
        )


def _compare(folder: Path, listed: Mapping[str, int], files: WordPieceFiles) -> None:
    """vocab.txt beside tokenizer.json holds the same tokens, with or without the added ones."""
    if listed in (files.tokens, files.ids):
        return
    ids = files.ids
    first = min((token for token in ids.keys() | listed.keys() if ids.get(token) != listed.get(token)),
                key=lambda token: (min(ids.get(token, len(ids)), listed.get(token, len(ids))), token))  # fmt: skip
    raise CheckpointError(
        f"{folder / _VOCABULARY} and {folder / _WHOLE} disagree: {first!r} has id {listed.get(first, 'none')} in the "
        f"one, {ids.get(first, 'none')} in the other. Delete the one that the model was not trained with."
    )
