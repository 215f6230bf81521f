"""What tokenizer.json says, which describes every step of a tokenizer: here it must be CLIP's.

Source: transformers, `CLIPTokenizer`, which builds these steps anew whatever the file says (version 5), or takes them
of the file (version 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.errors import CheckpointError

__all__ = ["END_OF_WORD", "HUB_WORDS", "byte_pair_model"]

END_OF_WORD = "</w>"
# Words as CLIPTokenizer of transformers 5 finds them; version 4 wrote the same without the two tokens.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
HUB_WORDS = rf"<\|startoftext\|>|<\|endoftext\|>|{_WORDS}"
_NORMALIZERS = [("NFC", None), ("Replace", ({"Regex": r"\s+"}, " ")), ("Lowercase", None)]


def byte_pair_model(
    path: Path, whole: Mapping[str, Any], special: Mapping[str, str], added: Mapping[str, int]
) -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """The vocabulary and the merges in tokenizer.json.

    Args:
        path: of the file.
        whole: what it holds.
        special: role → token.
        added: token → id of those that it lists as added.

    Raises:
        CheckpointError: it is not a CLIP's; every step that differs is listed.
    """
    model = whole.get("model")
    tokens, merges = (model.get("vocab"), model.get("merges")) if isinstance(model, dict) else (None, None)
    kind = model.get("type", "BPE") if isinstance(model, dict) else None
    if kind != "BPE" or not isinstance(model, dict) or not isinstance(tokens, dict) or not isinstance(merges, list):
        raise CheckpointError(f"{path} holds a tokenizer of type {kind!r}; CLIP's 'BPE' is expected.")
    if not all(type(index) is int for index in tokens.values()):
        raise CheckpointError(f"{path}: ids of the vocabulary are not whole numbers.")
    pairs = [tuple(each.split(" ")) if isinstance(each, str) else each for each in merges]
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise CheckpointError(f"{path}: merges that are not of two parts.")
    ends = [(special[role], {**tokens, **added}.get(special[role])) for role in ("bos_token", "eos_token")]
    steps = {
        "model.unk_token": (model.get("unk_token"), special["unk_token"]),
        "model.continuing_subword_prefix": (model.get("continuing_subword_prefix") or "", ""),
        "model.end_of_word_suffix": (model.get("end_of_word_suffix"), END_OF_WORD),
        "model.dropout": (model.get("dropout"), None),
        **{f"model.{flag}": (bool(model.get(flag)), False) for flag in ("fuse_unk", "byte_fallback", "ignore_merges")},
        "normalizer": ([_normalizer(each) for each in _sequence(whole.get("normalizer"), "normalizers")], _NORMALIZERS),
        "pre_tokenizer": (_words(whole.get("pre_tokenizer")), HUB_WORDS),
        "post_processor": (_ends(whole.get("post_processor")), ends),
    }
    wrong = [f"{name}={came!r} ({wanted!r} expected)" for name, (came, wanted) in steps.items() if came != wanted]
    if wrong:
        raise CheckpointError(f"{path} is not the tokenizer of a CLIP: {', '.join(wrong)}.")
    return dict(tokens), tuple((first, second) for first, second in pairs)


def _sequence(step: object, name: str) -> list[Any]:
    """The steps of one that may be a sequence of several."""
    if isinstance(step, dict) and step.get("type") == "Sequence":
        return list(step.get(name) or [])
    return [] if step is None else [step]


def _normalizer(step: object) -> tuple[object, object]:
    if not isinstance(step, dict):
        return step, None
    return step.get("type"), (step.get("pattern"), step.get("content")) if "pattern" in step else None


def _words(step: object) -> object:
    """By which words are found; `HUB_WORDS` for both of its spellings."""
    steps = _sequence(step, "pretokenizers")
    if [each.get("type") if isinstance(each, dict) else each for each in steps] != ["Split", "ByteLevel"]:
        return step
    split, level = steps
    pattern = split.get("pattern")
    found = pattern.get("Regex") if isinstance(pattern, dict) else None
    plain = (split.get("behavior"), split.get("invert"), level.get("add_prefix_space")) == ("Removed", True, False)
    return HUB_WORDS if plain and found in (HUB_WORDS, _WORDS) else step


def _ends(step: object) -> object:
    """The tokens at a text's ends with their ids, of either kind of step."""
    if not isinstance(step, dict):
        return step
    if step.get("type") == "RobertaProcessing":
        return [tuple(step.get("cls") or ()), tuple(step.get("sep") or ())]
    if step.get("type") == "TemplateProcessing" and isinstance(step.get("single"), list):
        ids = step.get("special_tokens") or {}
        names = [piece["SpecialToken"]["id"] for piece in step["single"] if "SpecialToken" in piece]
        return [(name, *((ids.get(name) or {}).get("ids") or ())) for name in names]
    return step
