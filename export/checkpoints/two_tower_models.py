"""GLoRIA's and ConVIRT's weights in their modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import BertModel

from export.checkpoints.fit import ExpectedTensors, fit_tensors
from export.checkpoints.layouts import BOTH, Checkpoint
from export.errors import CheckpointError
from export.families import Family
from export.reference import TextReference, bert_config
from export.reference.gloria import ConvirtImage, GloriaImage, convirt_image, gloria_image, two_layers

__all__ = ["load_convirt", "load_gloria"]

# Prefixes in a checkpoint → part, and the part's own prefix in its module.
_GLORIA = {"text_encoder.model.": ("text", ""), "img_encoder.": ("image", "")}
_CONVIRT = {
    "text_encoder.": ("text", ""),
    "text_projection.": ("text projection", ""),
    "image_encoder.": ("image", "model."),
    "image_projection.": ("image", "projection."),
}
_UNREAD_TEXT = ("pooler.", "embeddings.position_ids")


def load_gloria(family: Family, checkpoint: Checkpoint, note: Callable[[str], None]) -> dict[str, Any]:
    """See `export.checkpoints.models.load_models`."""
    assert checkpoint.text is not None
    image = checkpoint.image
    assert image is not None

    def untrained() -> dict[str, nn.Module]:
        return {"text": _bert(checkpoint), "image": GloriaImage(image.blocks, image.embedding_size)}

    models = _loaded(family, checkpoint, _GLORIA, untrained, note)
    longest = checkpoint.text.tokenization.max_length
    return {
        "text": TextReference(models["text"], checkpoint.text.pooling, longest=longest),
        "image": gloria_image(models["image"], image),
    }


def load_convirt(family: Family, checkpoint: Checkpoint, note: Callable[[str], None]) -> dict[str, Any]:
    """See `export.checkpoints.models.load_models`."""
    assert checkpoint.text is not None
    image = checkpoint.image
    assert image is not None

    def untrained() -> dict[str, nn.Module]:
        return {
            "text": _bert(checkpoint),
            "text projection": two_layers(int(checkpoint.config["hidden_size"]), image.embedding_size),
            "image": ConvirtImage(image.blocks, image.embedding_size),
        }

    models = _loaded(family, checkpoint, _CONVIRT, untrained, note)
    longest = checkpoint.text.tokenization.max_length
    return {
        "text": TextReference(models["text"], checkpoint.text.pooling, models["text projection"], longest),
        "image": convirt_image(models["image"], image),
    }


def _bert(checkpoint: Checkpoint) -> nn.Module:
    model: nn.Module = BertModel(bert_config(checkpoint.config), add_pooling_layer=False)
    return model


def _loaded(
    family: Family,
    checkpoint: Checkpoint,
    prefixes: Mapping[str, tuple[str, str]],
    untrained: Callable[[], dict[str, nn.Module]],
    note: Callable[[str], None],
) -> dict[str, Any]:
    tensors = checkpoint.tensors[BOTH]
    with torch.device("meta"):  # names and shapes alone
        shapes = {part: model.state_dict() for part, model in untrained().items()}
    found: dict[str, dict[str, torch.Tensor]] = {part: {} for part in shapes}
    for name, value in tensors.items():
        for prefix, (part, own) in prefixes.items():
            if name.startswith(prefix):
                found[part][own + name.removeprefix(prefix)] = value
    if not all(found.values()):
        raise CheckpointError(
            f"The weights are not those of a '{family.name}': tensors named {', '.join(prefixes)} are expected, "
            f"{', '.join(sorted({name.partition('.')[0] for name in tensors})[:8])} are there."
        )
    harmless = {"text": _UNREAD_TEXT, "image": family.image.harmless if family.image else ()}
    expected = {part: ExpectedTensors(state, harmless.get(part, ())) for part, state in shapes.items()}
    models = untrained()
    for part, fitted in fit_tensors(found, expected, note).items():
        models[part].load_state_dict(fitted, strict=False)
        models[part].eval()
    return models
