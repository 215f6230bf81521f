"""The models of CLIP-likes as their packages load them, from a checkpoint in the layout of either package."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = [
    "OPEN_CLIP_CONFIG",
    "TOKENIZER_FILES",
    "Loaded",
    "is_open_clip",
    "load",
    "load_open_clip",
    "load_transformers",
]

OPEN_CLIP_CONFIG = "open_clip_config.json"
TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("tokenizer_config.json", "special_tokens_map.json"),
)

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """A model of both towers with what its package does before it.

    Attributes:
        model: in evaluation mode, float32, on the processor.
        inputs: texts → what `embed_texts` takes, padded as the package does where nothing is said.
        rows: texts → token ids, cut to what the model reads and not padded.
        padded: such rows → what `embed_texts` takes, padded no more than it must be.
        embed_texts: inputs → tensor (N, D), not normalized.
        embed_images: tensor (N, 3, side, side) → tensor (N, D), not normalized.
        trims: whether the text model reads fewer tokens than its longest text has.
        transform: a Pillow image → tensor (3, side, side).
        mean: of each channel's values in [0, 1]; std alike.
    """

    model: Any
    inputs: Callable[[list[str]], Inputs]
    rows: Callable[[list[str]], list[list[int]]]
    padded: Callable[[list[list[int]]], Inputs]
    embed_texts: Callable[..., Any]
    embed_images: Callable[[Any], Any]
    trims: bool
    transform: Callable[[Any], Any]
    mean: Sequence[float]
    std: Sequence[float]


def is_open_clip(folder: str) -> bool:
    """Whether a checkpoint lies in open_clip's layout; else it is transformers'."""
    return (Path(folder) / OPEN_CLIP_CONFIG).is_file()


def load(folder: str) -> Loaded:
    """By the package whose layout the checkpoint has."""
    return load_open_clip(folder) if is_open_clip(folder) else load_transformers(folder)


@lru_cache
def load_transformers(folder: str, attention: str = "sdpa") -> Loaded:
    """transformers' `CLIPModel` and its processors, the one of images by Pillow, as the model was trained with.

    Args:
        folder: the checkpoint, in transformers' layout.
        attention: transformers' `attn_implementation`.
    """
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = transformers.CLIPModel.from_pretrained(folder, attn_implementation=attention).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    # transformers 5 has two, and the other one, which people get, resizes otherwise than OpenAI does.
    pillow = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    processor = pillow.from_pretrained(folder)
    longest = model.config.text_config.max_position_embeddings
    cut: dict[str, Any] = {"truncation": True, "max_length": longest}

    def padded(rows: list[list[int]]) -> Inputs:
        return dict(tokenizer.pad({"input_ids": rows}, return_tensors="pt"))

    return Loaded(
        model,
        lambda texts: dict(tokenizer(texts, padding=True, return_tensors="pt", **cut)),
        lambda texts: list(tokenizer(texts, **cut)["input_ids"]),
        padded,
        lambda **inputs: _tensor(model.get_text_features(**inputs)),
        lambda pixels: _tensor(model.get_image_features(pixel_values=pixels)),
        True,
        lambda image: processor(images=image, return_tensors="pt")["pixel_values"][0],
        processor.image_mean,
        processor.image_std,
    )


@lru_cache
def load_open_clip(folder: str) -> Loaded:
    """open_clip's model, tokenizer and transform.

    Args:
        folder: the checkpoint, in open_clip's layout.
    """
    import open_clip

    with tempfile.TemporaryDirectory(prefix="cxr-open-clip-") as mirror:
        _mirror(Path(folder), Path(mirror))
        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{mirror}")
        tokenizer = open_clip.get_tokenizer(f"local-dir:{mirror}")
    model = model.eval()
    mean, std = model.visual.preprocess_cfg["mean"], model.visual.preprocess_cfg["std"]
    hub_text = hasattr(getattr(model, "text", None), "config")
    pad = model.text.config.pad_token_id if hub_text else None

    def rows(texts: list[str]) -> list[list[int]]:
        found = tokenizer(texts)
        if hub_text:
            return [ids[:count].tolist() for ids, count in zip(found, (found != pad).sum(1), strict=True)]
        # Its own text transformer reads as many positions as it has.
        return [ids.tolist() for ids in found]

    def padded(given: list[list[int]]) -> Inputs:
        import torch

        longest = max(map(len, given))
        return {"text": torch.tensor([[*row, *[pad] * (longest - len(row))] for row in given])}

    return Loaded(
        model,
        lambda texts: {"text": tokenizer(texts)},
        rows,
        padded,
        model.encode_text,
        model.encode_image,
        hub_text,
        transform,
        mean,
        std,
    )


def _mirror(folder: Path, mirror: Path) -> None:
    """The checkpoint, its text model of the hub in a folder instead, so that nothing is asked of the hub."""
    from export.checkpoints.layouts.open_clip import bert_config

    whole = json.loads((folder / OPEN_CLIP_CONFIG).read_text(encoding="utf-8"))
    text = whole["model_cfg"]["text_cfg"]
    weights = (file.name for file in folder.glob("open_clip_*") if file.name != OPEN_CLIP_CONFIG)
    for name in (*weights, *TOKENIZER_FILES):
        if (folder / name).is_file():
            (mirror / name).symlink_to((folder / name).resolve())
    if "hf_model_name" in text:
        inside = mirror / "text-model"
        inside.mkdir()
        config = bert_config(folder / OPEN_CLIP_CONFIG, text)
        (inside / "config.json").write_text(json.dumps({**config, "model_type": "bert"}), encoding="utf-8")
        text["hf_model_name"] = str(inside)
    (mirror / OPEN_CLIP_CONFIG).write_text(json.dumps(whole), encoding="utf-8")


def _tensor(found: Any) -> Any:
    """What transformers 4 returns as a tensor and 5 in an object."""
    return getattr(found, "pooler_output", found)
