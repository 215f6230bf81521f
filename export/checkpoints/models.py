"""A checkpoint's weights in the reference's models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from export.checkpoints import Checkpoint, ExpectedTensors, fit_tensors
from export.families import Family
from export.reference import CXRBertModel, bert_config, build_image_model

__all__ = ["load_models"]


def load_models(
    family: Family, checkpoint: Checkpoint, note: Callable[[str], None] = lambda _: None
) -> dict[str, nn.Module]:
    """The models of all parts with the checkpoint's weights, in evaluation mode.

    Args:
        family: the system.
        checkpoint: of its weights.
        note: see `fit_tensors`.

    Raises:
        CheckpointError: the weights do not fit; the faults of all parts are raised together.
    """
    expected: dict[str, ExpectedTensors] = {}
    with torch.device("meta"):  # names and shapes alone
        shapes = {part: model.state_dict() for part, model in _untrained(family, checkpoint).items()}
    if family.text:
        text = family.text
        expected["text"] = ExpectedTensors(shapes["text"], text.harmless, dict(text.tied), dict(text.hints))
    if family.image:
        expected["image"] = ExpectedTensors(shapes["image"], family.image.harmless)
    fitted = fit_tensors(checkpoint.tensors, expected, note)
    models = _untrained(family, checkpoint)
    for part, tensors in fitted.items():
        models[part].load_state_dict(tensors, strict=False)
        models[part].eval()
    return models


def _untrained(family: Family, checkpoint: Checkpoint) -> dict[str, nn.Module]:
    models: dict[str, nn.Module] = {}
    if family.text:
        models["text"] = CXRBertModel(bert_config(checkpoint.config), family.text)
    if family.image:
        models["image"] = build_image_model(family.image)
    return models
