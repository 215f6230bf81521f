"""A checkpoint's weights in the reference's models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from export.checkpoints import Checkpoint, ExpectedTensors, fit_tensors
from export.checkpoints.clip_models import load_clip
from export.checkpoints.modules import DenseModule
from export.checkpoints.two_tower_models import load_convirt, load_gloria
from export.checkpoints.weights import read_tensors
from export.families import Family
from export.reference import TextReference, build_image_model, hi_ml_image, untrained_text

__all__ = ["load_models"]

# Of the head that scores words at masks.
_MASKED_HEAD = "cls.predictions."


def load_models(family: Family, checkpoint: Checkpoint, note: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """The models of all parts with the checkpoint's weights, in evaluation mode.

    Args:
        family: the system.
        checkpoint: of its weights.
        note: see `fit_tensors`.

    Returns:
        "text": `TextReference`; "image": `ImageReference`.

    Raises:
        CheckpointError: the weights do not fit; the faults of all parts are raised together.
    """
    return _LOADERS[family.layout](family, checkpoint, note)


def _load_hi_ml(family: Family, checkpoint: Checkpoint, note: Callable[[str], None]) -> dict[str, Any]:
    expected: dict[str, ExpectedTensors] = {}
    with torch.device("meta"):  # names and shapes alone
        shapes = {part: model.state_dict() for part, model in _untrained(family, checkpoint).items()}
    if family.text:
        text = family.text
        tied = {name: other for name, other in text.tied if name in shapes["text"]}
        # Without its head, a checkpoint's is not missed.
        unread = () if tied else (_MASKED_HEAD,)
        expected["text"] = ExpectedTensors(shapes["text"], (*text.harmless, *unread), tied, dict(text.hints))
    if family.image:
        expected["image"] = ExpectedTensors(shapes["image"], family.image.harmless, hints=dict(family.image.hints))
    fitted = fit_tensors(checkpoint.tensors, expected, note)
    models: dict[str, Any] = _untrained(family, checkpoint)
    for part, tensors in fitted.items():
        models[part].load_state_dict(tensors, strict=False)
        models[part].eval()
    if axes := checkpoint.text:
        dense = None if checkpoint.dense is None else _dense(checkpoint.dense, note)
        models["text"] = TextReference(models["text"], axes.pooling, dense, axes.tokenization.max_length)
    if family.image:
        models["image"] = hi_ml_image(models["image"], checkpoint.image or family.image)
    return models


def _untrained(family: Family, checkpoint: Checkpoint) -> dict[str, nn.Module]:
    models: dict[str, nn.Module] = {}
    if family.text:
        masked = family.text.masked_words
        if masked is None:
            masked = any(_MASKED_HEAD in f".{name}" for name in checkpoint.tensors["text"])
        models["text"] = untrained_text(checkpoint.config, family.text.projection, masked)
    if family.image:
        models["image"] = build_image_model(family.image)
    return models


def _dense(module: DenseModule, note: Callable[[str], None]) -> nn.Linear:
    """The linear map of a Dense module, with its weights."""
    dense = nn.Linear(module.in_features, module.out_features, bias=module.bias)
    expected = {f"linear.{name}": value for name, value in dense.state_dict().items()}
    fitted = fit_tensors({"dense": read_tensors(module.weights, note)}, {"dense": ExpectedTensors(expected)}, note)
    dense.load_state_dict({name.removeprefix("linear."): value for name, value in fitted["dense"].items()})
    return dense.eval()


_LOADERS: Mapping[str, Callable[[Family, Checkpoint, Callable[[str], None]], dict[str, Any]]] = MappingProxyType(
    {"hi-ml": _load_hi_ml, "clip": load_clip, "gloria": load_gloria, "convirt": load_convirt}
)
