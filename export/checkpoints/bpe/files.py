"""What the tokenizer files of a CLIP say, in the hub's layout, whichever of them there are.

transformers 4 wrote vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json and tokenizer.json;
transformers 5 writes tokenizer.json and tokenizer_config.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

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
from export.checkpoints.bpe.tokenizer_json import END_OF_WORD, byte_pair_model
from export.checkpoints.signatures import read_json, read_text
from export.errors import CheckpointError
from runtime.process.wording import few

__all__ = ["BPE_FILES", "BytePairs", "read_byte_pairs"]

_VOCABULARY, _MERGES, _WHOLE = "vocab.json", "merges.txt", "tokenizer.json"
BPE_FILES = (_VOCABULARY, _MERGES, _WHOLE, SETTINGS, SPECIAL, ADDED)
# What transformers' CLIPTokenizer takes where the files are silent.
_START, _END = "<|startoftext|>", "<|endoftext|>"
_ROLES = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
# Of CLIPTextConfig. With 2 for the end, which the published models say, the largest token of a text is taken for it.
_DEFAULTS = {"vocab_size": 49408, "eos_token_id": 49407}
_LARGEST_IS_END = 2


@dataclass(frozen=True)
class BytePairs:
    """A CLIP's tokenizer.

    Attributes:
        tokens: token → id, less those that were added later.
        merges: what is joined, the commonest first.
        special: role ("bos_token", "eos_token", "unk_token", "pad_token") → token.
        added: tokens that are found whole, those of `special` among them, in the order of their ids.
    """

    tokens: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]
    special: Mapping[str, str]
    added: tuple[AddedTokenEntry, ...]

    @property
    def ids(self) -> dict[str, int]:
        """Token → id, added ones included."""
        return {**self.tokens, **{entry.content: entry.index for entry in self.added}}


def read_byte_pairs(folder: Path, text_config: Mapping[str, Any] | None = None) -> BytePairs:
    """Read and compare all tokenizer files of a checkpoint.

    Args:
        folder: with tokenizer.json, or vocab.json and merges.txt, or all of them.
        text_config: of the text tower in config.json, which the tokenizer must fit; None compares nothing.

    Raises:
        CheckpointError: a file cannot be read, is not that of a CLIP's tokenizer, or disagrees with another one or with
            the model; tokens are missing. All faults are listed together.
    """
    there = {name for name in BPE_FILES if (folder / name).is_file()}
    if _WHOLE not in there and not {_VOCABULARY, _MERGES} <= there:
        raise CheckpointError(
            f"{folder} lacks a tokenizer: tokenizer.json, or vocab.json and merges.txt, are expected."
        )
    settings = read_json(folder / SETTINGS) if SETTINGS in there else {}
    roles = read_json(folder / SPECIAL) if SPECIAL in there else {}
    listed = _read_vocabulary(folder / _VOCABULARY) if _VOCABULARY in there else None
    pairs = _read_merges(folder / _MERGES) if _MERGES in there else None
    faults: list[str] = []
    special = _special(folder, settings, roles, faults)
    if _WHOLE in there:
        whole = read_json(folder / _WHOLE)
        entries = added_tokens(folder / _WHOLE, whole.get("added_tokens") or [])
        added = {entry.content: entry.index for entry in entries}
        tokens, merges = byte_pair_model(folder / _WHOLE, whole, special, added)
    else:
        assert listed is not None, "both were found"
        assert pairs is not None
        tokens, merges = listed, pairs
        entries = added_by_settings(folder, settings, tokens)
    entries = with_additional(folder, tokens, entries, settings, roles)
    entries += [
        AddedTokenEntry(token, tokens[token], normalized=False, special=True)
        for token in dict.fromkeys(special.values())
        if token in tokens and not among(entries, token)
    ]
    files = BytePairs(tokens, merges, special, tuple(sorted(entries, key=lambda entry: entry.index)))
    faults += _faults(files)
    if listed is not None and listed not in (files.tokens, files.ids):
        differing = [token for token in listed.keys() | files.ids.keys() if listed.get(token) != files.ids.get(token)]
        faults.append(f"{_VOCABULARY} and {_WHOLE} have other ids for {_some(differing)}")
    if pairs is not None and pairs != merges:
        faults.append(f"{_MERGES} and {_WHOLE} have other merges")
    if text_config is not None and not faults:
        faults += _misfits(files, text_config)
    if faults:
        raise CheckpointError(
            f"{folder} does not hold the tokenizer of a CLIP as it was trained: {'; '.join(faults)}. "
            "Save the tokenizer again with the model."
        )
    check_claims(folder, settings, files.ids)
    return files


def _special(folder: Path, settings: Mapping[str, Any], roles: Mapping[str, Any], faults: list[str]) -> dict[str, str]:
    """The token of each role; files that disagree are faults."""
    special: dict[str, str] = {}
    for role, default in _ROLES.items():
        said = [content_of(source[role], folder / name) for name, source in ((SETTINGS, settings), (SPECIAL, roles))
                if source.get(role)]  # fmt: skip
        special[role] = said[0] if said else default
        if len(set(said)) > 1:
            faults.append(f"{role} is {said[0]!r} in {SETTINGS}, {said[1]!r} in {SPECIAL}")
    return special


def _read_vocabulary(path: Path) -> dict[str, int]:
    found = read_json(path)
    if not all(type(index) is int for index in found.values()):
        raise CheckpointError(f"{path}: ids of the vocabulary are not whole numbers.")
    return found


def _read_merges(path: Path) -> tuple[tuple[str, str], ...]:
    """Lines of two parts, after one that says a version."""
    lines = read_text(path).removesuffix("\n").split("\n")
    pairs = [tuple(line.split(" ")) for line in lines if not line.startswith("#version")]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2 or not all(pair):
            raise CheckpointError(f"{path}: {' '.join(pair)!r}, its merge {number:,}, is not two parts with a space.")
    return tuple((first, second) for first, second in pairs)


def _faults(files: BytePairs) -> list[str]:
    """What a byte-pair tokenizer cannot be without, in words."""
    ids, faults = files.ids, []
    if missing := sorted({token for token in files.special.values() if token not in ids}):
        faults.append(f"the special tokens {_some(missing)} are not in the vocabulary")
    letters = ByteLevel.alphabet()
    if missing := [
        token for letter in letters for token in (letter, letter + END_OF_WORD) if token not in files.tokens
    ]:
        faults.append(
            f"the vocabulary lacks {len(missing)} of the {2 * len(letters)} letters, such as {_some(missing)}"
        )
    parts = {part for first, second in files.merges for part in (first, second, first + second)}
    if missing := [part for part in parts if part not in files.tokens]:
        faults.append(f"merges have {_some(missing)}, which the vocabulary lacks")
    moved = [entry.content for entry in files.added if files.tokens.get(entry.content, entry.index) != entry.index]
    if moved:
        faults.append(f"the added tokens {_some(moved)} have two ids")
    if sorted(ids.values()) != list(range(len(ids))):
        faults.append(f"the tokens' ids are not the numbers from 0 to {len(ids) - 1:,}, each once")
    return faults


def _misfits(files: BytePairs, text_config: Mapping[str, Any]) -> list[str]:
    """What the model's config.json says otherwise, in words."""
    size, end = (text_config.get(name, default) for name, default in _DEFAULTS.items())
    ids, faults = files.ids, []
    if len(ids) != size:
        faults.append(f"it has {len(ids):,} tokens, but config.json says vocab_size={size:,}")
    token = files.special["eos_token"]
    if end == _LARGEST_IS_END and ids[token] != len(ids) - 1:
        faults.append(
            f"the model takes the token of the largest id for a text's end (eos_token_id=2 in config.json), but "
            f"{token!r} has {ids[token]:,} of {len(ids):,}"
        )
    elif end not in (_LARGEST_IS_END, ids[token]):
        faults.append(f"{token!r} has id {ids[token]:,}, but config.json says eos_token_id={end}")
    return faults


def _some(tokens: Iterable[str]) -> str:
    return few([repr(token) for token in sorted(tokens)], 5)
