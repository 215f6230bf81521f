"""The weights of both towers of a CLIP-like, from one file, in upstream's model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from export.checkpoints.fit import ExpectedTensors, fit_tensors
from export.checkpoints.layouts import BOTH, Checkpoint
from export.families import Family
from export.reference import (
    open_clip_references,
    transformers_references,
    untrained_open_clip,
    untrained_transformers_clip,
)

__all__ = ["load_clip"]

# Buffers that older versions of both packages wrote.
_POSITIONS = "embeddings.position_ids"
_HARMLESS = (
    f"text_model.{_POSITIONS}",
    f"vision_model.{_POSITIONS}",
    f"text.transformer.{_POSITIONS}",
    "text.transformer.pooler.",
)
# transformers' configuration has both; open_clip's neither.
_TRANSFORMERS = ("text_config", "vision_config", "text_config_dict", "vision_config_dict")


def load_clip(family: Family, checkpoint: Checkpoint, note: Callable[[str], None]) -> dict[str, Any]:
    """See `export.checkpoints.models.load_models`."""
    assert checkpoint.text is not None
    assert checkpoint.image is not None
    transformers = "vision_cfg" not in checkpoint.config

    def untrained() -> nn.Module:
        if transformers:
            return untrained_transformers_clip(checkpoint.config)
        of_the_hub = "hf_model_name" in checkpoint.config["text_cfg"]
        return untrained_open_clip(checkpoint.config, checkpoint.text_config if of_the_hub else None)

    with torch.device("meta"):  # names and shapes alone
        state = untrained().state_dict()
    found = {BOTH: {name: _shaped(value, state.get(name)) for name, value in checkpoint.tensors[BOTH].items()}}
    fitted = fit_tensors(found, {BOTH: ExpectedTensors(state, _HARMLESS)}, note)
    model = untrained()
    model.load_state_dict(fitted[BOTH], strict=False)
    references = transformers_references if transformers else open_clip_references
    text, image = references(model, checkpoint.text, checkpoint.image)
    return {"text": text, "image": image}


def _shaped(value: torch.Tensor, like: torch.Tensor | None) -> torch.Tensor:
    """logit_scale and logit_bias are a number or a list of one; upstream reshapes them, too."""
    return value.reshape(like.shape) if like is not None and value.numel() == like.numel() == 1 else value
