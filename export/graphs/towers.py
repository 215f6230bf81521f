"""The towers of CLIP-like models in one form, whatever package built them.

A model is recognised by the name of its class, so that a package is needed where one of its models is exported and
nowhere else: transformers' `CLIPModel`; open_clip's `CLIP` and `CustomTextCLIP`, whose vision tower is a
`VisionTransformer` or, in a `TimmModel`, timm's of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import nn

from export.errors import GraphError
from export.graphs.prenorm import PreNormLayer, linear_of, plain_norm, read_layers

__all__ = ["TextTower", "VisionTower", "text_tower", "vision_tower"]


_Tower = TypeVar("_Tower", "TextTower", "VisionTower")


@dataclass(frozen=True)
class TextTower:
    """A causal text transformer, whose embedding is made of the state of a text's last token.

    Attributes:
        tokens: float (vocabulary, D).
        positions: float (longest, D).
        final_norm: behind the last layer.
        projection: of the normalized state; Identity where there is none.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    layers: list[PreNormLayer]
    final_norm: nn.LayerNorm
    projection: nn.Module


@dataclass(frozen=True)
class VisionTower:
    """A vision transformer, whose embedding is made of the state of its class token.

    Attributes:
        patches: the convolution that makes tokens of patches.
        class_token: float (D,).
        positions: float (1 + patches, D), the class token's first.
        first_norm: before the layers; Identity where there is none.
        final_norm: behind the last layer.
        projection: of the normalized state; Identity where there is none.
    """

    patches: nn.Conv2d
    class_token: torch.Tensor
    positions: torch.Tensor
    first_norm: nn.Module
    layers: list[PreNormLayer]
    final_norm: nn.LayerNorm
    projection: nn.Module


def text_tower(model: nn.Module) -> TextTower:
    """The causal text tower of a model; nothing is changed or copied.

    Args:
        model: see above.

    Raises:
        GraphError: a class that is not known, or a tower that computes something else.
    """
    return _read(_TEXT, model, "text tower")


def vision_tower(model: nn.Module) -> VisionTower:
    """The vision transformer of a model; nothing is changed or copied.

    Args:
        model: see above, or open_clip's `VisionTransformer` or `TimmModel` itself.

    Raises:
        GraphError: a class that is not known, or a tower that computes something else.
    """
    return _read(_VISION, model, "vision tower")


def _read(readers: Mapping[str, Callable[[Any], _Tower]], model: nn.Module, what: str) -> _Tower:
    name = type(model).__name__
    if name not in readers:
        raise GraphError(f"There are no rewrites for the {what} of a {name}; there are for {', '.join(readers)}.")
    return readers[name](model)


def _text_of_transformers(model: Any) -> TextTower:
    text = model.text_model
    return TextTower(
        tokens=text.embeddings.token_embedding.weight,
        positions=text.embeddings.position_embedding.weight,
        layers=read_layers(text.encoder.layers),
        final_norm=plain_norm(text.final_layer_norm),
        projection=model.text_projection,
    )


def _text_of_open_clip(text: Any) -> TextTower:
    """The tower lies in open_clip's `CLIP` itself, and in `CustomTextCLIP` beneath `text`, by the same names."""
    pooling = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", None)
    unlike = {
        f"pools '{pooling}'": pooling not in ("argmax", "eos"),
        "has no causal mask": text.attn_mask is None,
        "appends a class token": getattr(text, "cls_emb", None) is not None,
    }
    _refuse("text tower", unlike)
    return TextTower(
        tokens=text.token_embedding.weight,
        positions=text.positional_embedding,
        layers=read_layers(text.transformer.resblocks),
        final_norm=plain_norm(text.ln_final),
        projection=_projection(text.text_projection),
    )


def _text_of_custom_open_clip(model: Any) -> TextTower:
    return _read({"TextTransformer": _text_of_open_clip}, model.text, "text tower")


def _vision_of_transformers(model: Any) -> VisionTower:
    vision = model.vision_model
    return VisionTower(
        patches=vision.embeddings.patch_embedding,
        class_token=vision.embeddings.class_embedding,
        positions=vision.embeddings.position_embedding.weight,
        first_norm=plain_norm(vision.pre_layrnorm),  # spelled so
        layers=read_layers(vision.encoder.layers),
        final_norm=plain_norm(vision.post_layernorm),
        projection=model.visual_projection,
    )


def _vision_of_open_clip(vision: Any) -> VisionTower:
    unlike = {
        "pools by attention": vision.attn_pool is not None,
        f"pools '{vision.pool_type}'": vision.pool_type != "tok",
    }
    _refuse("vision tower", unlike)
    return VisionTower(
        patches=vision.conv1,
        class_token=vision.class_embedding,
        positions=vision.positional_embedding,
        first_norm=_norm_or_none(vision.ln_pre),
        layers=read_layers(vision.transformer.resblocks),
        final_norm=plain_norm(vision.ln_post),
        projection=_projection(vision.proj),
    )


def _vision_of_timm(model: Any) -> VisionTower:
    """timm's `VisionTransformer` and the head that open_clip puts behind it."""
    trunk = model.trunk
    _refuse("vision tower", {f"is a {type(trunk).__name__}": type(trunk).__name__ != "VisionTransformer"})
    unlike = {
        f"pools '{trunk.global_pool}'": trunk.global_pool != "token",
        "has register tokens": trunk.num_prefix_tokens != 1,
        "has no positions": trunk.pos_embed is None,
        "normalizes patches": not isinstance(trunk.patch_embed.norm, nn.Identity),
        "normalizes after pooling": not isinstance(trunk.fc_norm, nn.Identity),
    }
    _refuse("vision tower", unlike)
    positions = trunk.pos_embed[0]
    if trunk.no_embed_class:
        positions = torch.cat([torch.zeros_like(positions[:1]), positions])
    head = [trunk.head, *model.head]
    maps = [module for module in head if not isinstance(module, nn.Identity | nn.Dropout)]
    return VisionTower(
        patches=trunk.patch_embed.proj,
        class_token=trunk.cls_token[0, 0],
        positions=positions,
        first_norm=_norm_or_none(trunk.norm_pre),
        layers=read_layers(trunk.blocks),
        final_norm=plain_norm(trunk.norm),
        projection=maps[0] if len(maps) == 1 else nn.Sequential(*maps),
    )


def _vision_of_model(model: Any) -> VisionTower:
    return _read(_VISION, model.visual, "vision tower")


_TEXT: Mapping[str, Callable[[Any], TextTower]] = MappingProxyType(
    {
        "CLIPModel": _text_of_transformers,
        "CLIP": _text_of_open_clip,
        "CustomTextCLIP": _text_of_custom_open_clip,
    }
)
_VISION: Mapping[str, Callable[[Any], VisionTower]] = MappingProxyType(
    {
        "CLIPModel": _vision_of_transformers,
        "CLIP": _vision_of_model,
        "CustomTextCLIP": _vision_of_model,
        "VisionTransformer": _vision_of_open_clip,
        "TimmModel": _vision_of_timm,
    }
)


def _refuse(what: str, unlike: Mapping[str, bool]) -> None:
    """Raise if a tower is unlike what is expected in any way."""
    if found := [words for words, holds in unlike.items() if holds]:
        raise GraphError(f"The {what} {' and '.join(found)}, for which there are no rewrites.")


def _norm_or_none(norm: nn.Module) -> nn.Module:
    return norm if isinstance(norm, nn.Identity) else plain_norm(norm)


def _projection(projection: nn.Module | torch.Tensor | None) -> nn.Module:
    """open_clip's is a matrix (in, out) that states are multiplied by, or a linear map, or None."""
    if projection is None:
        return nn.Identity()
    return projection if isinstance(projection, nn.Module) else linear_of(projection.T)
