"""How open_clip reads the texts of a model, by the text_cfg of its open_clip_config.json.

Source: open_clip, `get_tokenizer` for "local-dir:", `SimpleTokenizer` and `HFTokenizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.errors import CheckpointError
from runtime.bundle.parts import BYTE_PAIRS, CUT, FTFY, WORD_PIECES, Tokenization

__all__ = ["open_clip_tokenization"]

_CONTEXT_LENGTH = 77
# Class → what its options may be; the first is its default. Its own vocabulary is lower-cased there, a BERT's files say
# themselves whether they are; texts are mended alike.
_OPTIONS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "SimpleTokenizer": {"clean": ("lower",), "reduction_mask": ("", None), "additional_special_tokens": (None, [])},
    "HFTokenizer": {"clean": ("whitespace",), "strip_sep_token": (False,), "tokenizer_mode": ("", None)},
}


def open_clip_tokenization(path: Path, text_cfg: Mapping[str, Any]) -> Tokenization:
    """From a text to token ids, as open_clip does it.

    Args:
        path: of open_clip_config.json.
        text_cfg: of its model_cfg.

    Returns:
        The kind "wordpiece" where a tokenizer of the hub is named, which must be a BERT's (files in the folder are read
        for it), else "bpe", open_clip's own vocabulary. Texts of more than context_length tokens are cut.

    Raises:
        CheckpointError: it asks for another way; all of it is listed.
    """
    kind = "HFTokenizer" if text_cfg.get("hf_tokenizer_name") else "SimpleTokenizer"
    asked = dict(text_cfg.get("tokenizer_kwargs") or {})
    if kind == "HFTokenizer" and "tokenizer_mode" in text_cfg:
        asked["tokenizer_mode"] = text_cfg["tokenizer_mode"]
    longest = text_cfg.get("context_length") or _CONTEXT_LENGTH
    known = _OPTIONS[kind]
    faults = [f"{name}={value!r}" for name, value in asked.items() if value not in known.get(name, ())]
    if ("hf_model_name" in text_cfg) != (kind == "HFTokenizer"):
        tower = "a text model of the hub" if "hf_model_name" in text_cfg else "open_clip's own text tower"
        faults.append(f"hf_tokenizer_name={text_cfg.get('hf_tokenizer_name')!r} for {tower}")
    if type(longest) is not int or longest < 1:
        faults.append(f"context_length={longest!r}")
    if faults:
        supported = ", ".join(f"{name}={values[0]!r}" for name, values in known.items())
        raise CheckpointError(
            f"{path}: texts are read by open_clip's {kind} with {', '.join(faults)}, which cannot be exported. "
            f"Supported is {supported}."
        )
    return Tokenization(WORD_PIECES if kind == "HFTokenizer" else BYTE_PAIRS, longest, CUT, FTFY, {}, None)
