"""A CLIP's tokenizer → the files of a bundle, or of a checkpoint in the hub's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from export.checkpoints.added_tokens import SETTINGS, SPECIAL, AddedTokenEntry, add_to
from export.checkpoints.bpe.files import BPE_FILES, BytePairs, read_byte_pairs
from export.checkpoints.bpe.open_clip import END, START, open_clip_byte_pairs
from export.checkpoints.bpe.tokenizer_json import END_OF_WORD, HUB_WORDS
from export.checkpoints.tokenizer import write_json
from export.errors import CheckpointError

__all__ = ["write_bpe_tokenizer", "write_hub_files"]

# `SimpleTokenizer.pat`, where IGNORECASE takes the long s for an s, and the iota subscript for no mark: it is dropped.
_OPEN_CLIP_WORDS = rf"{START}|{END}|'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}\x{{345}}]+"
# Python lower-cases the last sigma of a Greek word as such; the step of tokenizers looks at one letter at a time. No
# text takes long: what comes between two letters is looked at twice.
_CASED = r"[\p{Cased}&&\P{Case_Ignorable}]"
_LAST_SIGMA = rf"{_CASED}\p{{Case_Ignorable}}*\KΣ(?!\p{{Case_Ignorable}}*{_CASED})"


def write_bpe_tokenizer(
    checkpoint: Path,
    out: Path,
    *,
    longest: int,
    source: Literal["transformers", "open_clip"],
    text_config: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json.

    Args:
        checkpoint: folder with the files that `read_byte_pairs` reads; for open_clip there need be none.
        out: an existing folder.
        longest: most tokens of a text, for other tools.
        source: whose tokenizer it is. "transformers": CLIPTokenizer, as version 5 builds it and CLIPTokenizerFast of
            version 4; version 4's slow class calls ftfy where that is installed, and is not followed. "open_clip":
            SimpleTokenizer, whose vocabulary is the package's; its mending of texts is the runtime's.
        text_config: sizes of the text tower, by the names of CLIPTextConfig, which the tokenizer must fit.

    Returns:
        The names of the files written.

    Raises:
        CheckpointError: see `read_byte_pairs`; a checkpoint of open_clip's with another vocabulary.
    """
    if source == "open_clip":
        files = _checked_open_clip(checkpoint, text_config)
        steps = [normalizers.Replace(Regex(_LAST_SIGMA), "ς"), normalizers.Lowercase()]
        words, again = _OPEN_CLIP_WORDS, False
    else:
        files = read_byte_pairs(checkpoint, text_config)
        steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        words, again = HUB_WORDS, True
    special = dict(files.special)
    start, end = special["bos_token"], special["eos_token"]
    tokenizer = Tokenizer(
        models.BPE(
            dict(files.tokens),
            list(files.merges),
            continuing_subword_prefix="",
            end_of_word_suffix=END_OF_WORD,
            unk_token=special["unk_token"],
        )
    )
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=again),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # Also in capitals they are found, so that the runtime can refuse them.
    ends = {start, end, special["unk_token"]}
    add_to(tokenizer, [replace(entry, normalized=True) if entry.content in ends else entry for entry in files.added])
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, files.ids[end]), (start, files.ids[start]), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.save(str(out / "tokenizer.json"))
    _write_settings(out, special, longest)
    return ["tokenizer.json", SETTINGS, SPECIAL]


def write_hub_files(folder: Path, merges: int | None = None) -> BytePairs:
    """Write open_clip's vocabulary as the hub's CLIP models have it: vocab.json, merges.txt and the settings.

    Args:
        folder: an existing folder.
        merges: see `open_clip_byte_pairs`.

    Returns:
        What `read_byte_pairs` reads there.
    """
    files = open_clip_byte_pairs(merges)
    names = {START: "<|startoftext|>", END: "<|endoftext|>"}
    write_json(folder / "vocab.json", {names.get(token, token): index for token, index in files.tokens.items()})
    lines = ["#version: 0.2", *(" ".join(pair) for pair in files.merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _write_settings(folder, {role: names[token] for role, token in files.special.items()}, 77)
    return read_byte_pairs(folder)


def _write_settings(folder: Path, special: Mapping[str, str], longest: int) -> None:
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "do_lower_case": True,
        "errors": "replace",
        "add_prefix_space": False,
        "model_max_length": longest,
        **special,
    }
    write_json(folder / SETTINGS, settings)
    write_json(folder / SPECIAL, special)


def _checked_open_clip(checkpoint: Path, text_config: Mapping[str, Any] | None) -> BytePairs:
    """open_clip's vocabulary, which files in the checkpoint, that open_clip does not read, must not contradict."""
    files = open_clip_byte_pairs()
    added = tuple(AddedTokenEntry(token, files.tokens[token], special=True) for token in (START, END))
    files = replace(files, added=added)
    ids = files.ids
    size = len(ids) if text_config is None else text_config.get("vocab_size", len(ids))
    if size != len(ids):
        raise CheckpointError(
            f"{checkpoint}: the model has {size:,} tokens, open_clip's tokenizer, the only one that open_clip uses "
            f"for such a model, {len(ids):,}."
        )
    if any((checkpoint / name).is_file() for name in BPE_FILES[:3]):
        there = read_byte_pairs(checkpoint)
        words = {token: index for token, index in ids.items() if token not in (START, END)}
        same = words == {token: index for token, index in there.ids.items() if index < ids[START]}
        if not same or there.merges != files.merges or len(there.ids) != len(ids):
            raise CheckpointError(
                f"{checkpoint} brings a tokenizer of another vocabulary than open_clip's, the only one that open_clip "
                "uses for such a model. Delete its files if the model was trained with open_clip's."
            )
    return files
