"""What tokenizer.json says, which describes every step of a tokenizer: here it must be BERT's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.errors import CheckpointError

__all__ = ["DEFAULTS", "agreed_settings", "check_settings", "wordpiece_tokens"]

# What transformers' BertTokenizer takes where tokenizer_config.json is silent.
DEFAULTS = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None}
# The same settings in tokenizer.json.
_NORMALIZER = {"do_lower_case": "lowercase", "tokenize_chinese_chars": "handle_chinese_chars"}
_LONGEST_WORD = 100


def wordpiece_tokens(path: Path, whole: Mapping[str, Any], special: Mapping[str, str]) -> dict[str, int]:
    """The vocabulary in tokenizer.json, which must be that of BERT's WordPiece."""
    model = whole.get("model")
    kind = model.get("type", "WordPiece") if isinstance(model, dict) else None
    tokens = model.get("vocab") if isinstance(model, dict) else None
    if kind != "WordPiece" or not isinstance(model, dict) or not isinstance(tokens, dict):
        raise CheckpointError(f"{path} holds a tokenizer of type {kind!r}; BERT's 'WordPiece' is expected.")
    if not all(type(index) is int for index in tokens.values()):
        raise CheckpointError(f"{path}: ids of the vocabulary are not whole numbers.")
    pieces = {
        "model.unk_token": (model.get("unk_token"), special["unk_token"]),
        "model.continuing_subword_prefix": (model.get("continuing_subword_prefix", "##"), "##"),
        "model.max_input_chars_per_word": (model.get("max_input_chars_per_word", _LONGEST_WORD), _LONGEST_WORD),
        "pre_tokenizer": (_type(whole.get("pre_tokenizer")), "BertPreTokenizer"),
        "normalizer": (_type(whole.get("normalizer")), "BertNormalizer"),
    }
    wrong = [f"{name}={came!r} ({wanted!r} expected)" for name, (came, wanted) in pieces.items() if came != wanted]
    if _type(whole.get("post_processor")) not in ("TemplateProcessing", "BertProcessing"):
        wrong.append(f"post_processor={_type(whole.get('post_processor'))!r} ('TemplateProcessing' expected)")
    normalizer = whole.get("normalizer")
    if isinstance(normalizer, dict) and not normalizer.get("clean_text", True):
        wrong.append("normalizer.clean_text=False (True expected)")
    if wrong:
        raise CheckpointError(f"{path} is not the tokenizer of a BERT: {', '.join(wrong)}.")
    return dict(tokens)


def agreed_settings(
    path: Path, whole: Mapping[str, Any], other_path: Path, settings: Mapping[str, Any], has_list: bool
) -> dict[str, Any]:
    """The settings of the normalizer, which tokenizer_config.json, as transformers reads it, must not contradict.

    Args:
        path: of tokenizer.json.
        whole: what it holds.
        other_path: of tokenizer_config.json.
        settings: what it holds.
        has_list: whether there is a vocab.txt too, for which BertTokenizer's defaults hold.

    Returns:
        do_lower_case, tokenize_chinese_chars, strip_accents.

    Raises:
        CheckpointError: they disagree, or are no truth values.
    """
    stated = _normalizer(path, whole)
    check_settings(other_path, {name: settings[name] for name in DEFAULTS if name in settings})
    # transformers' class for any tokenizer reads tokenizer.json alone; the class for BERT has defaults of its own.
    defaults = DEFAULTS if has_list or "Bert" in str(settings.get("tokenizer_class")) else stated
    other = {name: settings.get(name, defaults[name]) for name in DEFAULTS}
    first, second = _effective(stated), _effective(other)
    wrong = [
        f"{name} is {first[name]} in one, {second[name]} in the other" for name in first if first[name] != second[name]
    ]
    if wrong:
        raise CheckpointError(
            f"{path} and {other_path} disagree: {'; '.join(wrong)} (a setting that is not written has transformers' "
            "default). Set both to what the model was trained with."
        )
    return stated


def check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless the settings of the normalizer are truth values."""
    wrong = [
        f"{name}={value!r}"
        for name, value in settings.items()
        if not isinstance(value, bool) and not (name == "strip_accents" and value is None)
    ]
    if wrong:
        raise CheckpointError(f"{path}: true or false is expected for {', '.join(wrong)}.")


def _normalizer(path: Path, whole: Mapping[str, Any]) -> dict[str, Any]:
    normalizer = whole["normalizer"]
    found = {name: normalizer.get(key, True) for name, key in _NORMALIZER.items()}
    found["strip_accents"] = normalizer.get("strip_accents")
    check_settings(path, found)
    return found


def _effective(settings: Mapping[str, Any]) -> dict[str, Any]:
    strips = settings["strip_accents"]
    return {**settings, "strip_accents": settings["do_lower_case"] if strips is None else strips}


def _type(step: object) -> object:
    return step.get("type") if isinstance(step, dict) else None
