"""Tokens that are found whole in a text: special ones, and those added for fine-tuning, in every file that lists them.

transformers 5 lists them in tokenizer.json, version 4 in tokenizer_config.json too, older ones in added_tokens.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from export.checkpoints.signatures import read_json
from export.errors import CheckpointError

__all__ = [
    "ADDED",
    "SETTINGS",
    "SPECIAL",
    "AddedTokenEntry",
    "add_to",
    "added_by_settings",
    "added_tokens",
    "among",
    "check_claims",
    "content_of",
    "with_additional",
]

SETTINGS, SPECIAL, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class AddedTokenEntry:
    """A token that is found in a text before that is cut into words: special, or added for fine-tuning."""

    content: str
    index: int
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


def add_to(tokenizer: Tokenizer, entries: Iterable[AddedTokenEntry]) -> None:
    """Add tokens to a tokenizer; of those that its vocabulary lacks the next ids must be theirs."""
    for entry in entries:
        token = AddedToken(
            entry.content,
            single_word=entry.single_word,
            lstrip=entry.lstrip,
            rstrip=entry.rstrip,
            normalized=entry.normalized,
            special=entry.special,
        )
        (tokenizer.add_special_tokens if entry.special else tokenizer.add_tokens)([token])


def added_tokens(path: Path, listed: object) -> list[AddedTokenEntry]:
    """Added tokens as tokenizer.json lists them."""
    if not isinstance(listed, list) or not all(
        isinstance(each, dict) and isinstance(each.get("content"), str) and type(each.get("id")) is int
        for each in listed
    ):
        raise CheckpointError(f"{path}: added tokens without a content and an id.")
    made = [
        AddedTokenEntry(each["content"], each["id"], **{flag: bool(each[flag]) for flag in _FLAGS if flag in each})
        for each in listed
    ]
    return sorted(made, key=lambda entry: entry.index)


def added_by_settings(folder: Path, settings: Mapping[str, Any], tokens: Mapping[str, int]) -> list[AddedTokenEntry]:
    """Added tokens where there is no tokenizer.json: in tokenizer_config.json, or alone in an older file."""
    decoder = settings.get("added_tokens_decoder")
    if isinstance(decoder, dict) and decoder:
        listed = [{**each, "id": int(index)} for index, each in decoder.items() if _is_entry(index, each)]
        if len(listed) != len(decoder):
            raise CheckpointError(f"{folder / SETTINGS}: added_tokens_decoder is no mapping from ids to tokens.")
        return added_tokens(folder / SETTINGS, listed)
    alone = read_json(folder / ADDED) if (folder / ADDED).is_file() else {}
    listed = [{"content": content, "id": index} for content, index in alone.items() if content not in tokens]
    return added_tokens(folder / ADDED, listed)


def _is_entry(index: object, entry: object) -> bool:
    return bool(re.fullmatch(r"\d{1,9}", str(index))) and isinstance(entry, dict)


def with_additional(
    folder: Path,
    tokens: Mapping[str, int],
    entries: list[AddedTokenEntry],
    settings: Mapping[str, Any],
    roles: Mapping[str, Any],
) -> list[AddedTokenEntry]:
    """Special tokens without a role of their own that are named without an id take the next ones."""
    entries = list(entries)
    for source in (settings, roles):
        for key in ("additional_special_tokens", "extra_special_tokens"):
            listed = source.get(key) or []
            if not isinstance(listed, (list, dict)):
                raise CheckpointError(f"{folder / SETTINGS}: a list is expected for {key}, not {listed!r}.")
            for token in listed.values() if isinstance(listed, dict) else listed:
                content = content_of(token, folder / SETTINGS)
                if not among(entries, content):
                    following = len({*tokens, *(entry.content for entry in entries)})
                    index = tokens.get(content, following)
                    entries.append(AddedTokenEntry(content, index, normalized=False, special=True))
    return sorted(entries, key=lambda entry: entry.index)


def among(entries: Iterable[AddedTokenEntry], content: str) -> bool:
    """Whether a token is one of those added."""
    return any(entry.content == content for entry in entries)


def check_claims(folder: Path, settings: Mapping[str, Any], ids: Mapping[str, int]) -> None:
    """Raise CheckpointError unless every file that states ids of added tokens states these."""
    alone = read_json(folder / ADDED) if (folder / ADDED).is_file() else {}
    decoder = settings.get("added_tokens_decoder")
    listed = decoder.items() if isinstance(decoder, dict) else ()
    by_settings = {content_of(each, folder / SETTINGS): index for index, each in listed}
    for name, claims in ((SETTINGS, by_settings), (ADDED, alone)):
        wrong = [token for token, index in claims.items() if str(ids.get(token)) != str(index)]
        if wrong:
            raise CheckpointError(
                f"{folder / name} gives the added tokens {', '.join(map(repr, wrong[:10]))} other ids than the "
                "rest of the files. Save the tokenizer again."
            )


def content_of(token: object, path: Path) -> str:
    """A special token is written as a string or as an object with its content."""
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str) or not content:
        raise CheckpointError(f"{path}: {token!r} is no token; a text or an object with a content is expected.")
    return content
