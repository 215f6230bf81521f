"""The image models as upstream builds them: hi-ml-multimodal's own, imported when one is needed.

Source: hi-ml-multimodal, `image/model/model.py` and `image/inference_engine.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from export.families import ImageModel
from export.reference.hi_ml import hi_ml
from export.reference.image_pairs import ENCODERS, build_pair_model
from runtime.bundle.parts import Preprocessing

__all__ = ["ImageReference", "build_image_model", "hi_ml_image", "image_embeddings", "normalized"]

# Architecture → the blocks of its trunk.
_BLOCKS: Mapping[str, type[BasicBlock | Bottleneck]] = MappingProxyType(
    {"resnet18": BasicBlock, "resnet50": Bottleneck}
)


def build_image_model(image: ImageModel) -> nn.Module:
    """An untrained `health_multimodal.image.model.ImageModel`, with a trunk as deep as the family says.

    Its parameters have the names of the published checkpoints: `encoder.encoder.…` and `projector.model.…`. Of systems
    that compare images it is a `MultiImageModel`, see `build_pair_model`.

    Args:
        image: the image tower.

    Raises:
        MissingExtraError: hi-ml-multimodal is not installed.
    """
    if image.architecture in ENCODERS:
        return build_pair_model(image)
    upstream, resnet = hi_ml("image.model.model").ImageModel, hi_ml("image.model.resnet").ResNetHIML
    # It learns its trunk's width from a pass through it, which takes seconds with weights and none without.
    with torch.device("meta"):
        model: nn.Module = upstream(image.architecture, joint_feature_size=image.embedding_size)
    model.encoder.encoder = resnet(block=_BLOCKS[image.architecture], layers=list(image.blocks))
    model.projector.to_empty(device=torch.get_default_device())
    for module in model.projector.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.reset_parameters()
    return model


def image_embeddings(model: nn.Module, *channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Global and patch embeddings, as hi-ml's inference engine normalizes them.

    Args:
        model: of `build_image_model`.
        channels: float32 (N, 3, crop, crop), see `normalized`; for models that compare images a second one, of the
            previous images.

    Returns:
        float32 (N, D): spatial mean of the projected patches, then unit norm; and float32 (N, rows, columns, D): every
        patch with unit norm.
    """
    found = model(*channels)
    image_embeds = F.normalize(found.projected_global_embedding, dim=-1)
    patch_embeds = F.normalize(found.projected_patch_embeddings, dim=1).permute(0, 2, 3, 1)
    return image_embeds, patch_embeds


def normalized(pixels: torch.Tensor, rule: Preprocessing) -> torch.Tensor:
    """The pixels that the runtime prepares as upstream's transforms end: in [0, 1], less the mean, divided by std.

    Args:
        pixels: uint8 (N, crop, crop) or (N, 3, crop, crop), see `Preprocessing.shape`.
        rule: of the image tower.

    Returns:
        float32 (N, 3, crop, crop).
    """
    channels = pixels.float().div(255)
    channels = channels[:, None].expand(-1, 3, -1, -1) if channels.ndim == 3 else channels
    mean, std = (torch.tensor(each, device=pixels.device)[:, None, None] for each in (rule.mean, rule.std))
    return channels if not mean.any() and (std == 1).all() else (channels - mean) / std


@dataclass(frozen=True)
class ImageReference:
    """An image model of upstream's, with how an embedding is made of it.

    Attributes:
        model: upstream's, in evaluation mode.
        rule: from a picture to its pixels.
        architecture: see `runtime.bundle.parts.ImagePart`; grid alike.
        size: length of an embedding.
        name: the reference in words.
        forward: float32 (N, 3, crop, crop), see `normalized` → (N, D) and, of patches, (N, rows, columns, D) or None:
            unit norm.
        images: pictures that an embedding may be made of.
        compare: as forward, of current images and previous ones; None where one is all.
    """

    model: nn.Module
    rule: Preprocessing
    architecture: str
    grid: int | None
    size: int
    name: str
    forward: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
    images: int = 1
    compare: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]] | None = None

    def embed(
        self, pixels: NDArray[np.uint8], previous: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Embed pixels that the runtime prepared.

        Args:
            pixels: uint8 (N, …), see `Preprocessing.shape`.
            previous: of the previous images, alike; for models that compare images.

        Returns:
            Global float32 (N, D) and, where there is a grid, of patches (N, rows, columns, D); unit norm.
        """
        # Not no_grad: upstream's forward turns gradients on again where they were merely turned off.
        with torch.inference_mode():
            current, *before = (
                normalized(torch.tensor(each), self.rule) for each in (pixels, previous) if each is not None
            )
            if before:
                assert self.compare is not None, "only models that compare images get two"
                image_embeds, patch_embeds = self.compare(current, *before)
            else:
                image_embeds, patch_embeds = self.forward(current)
        patches = None if patch_embeds is None or self.grid is None else patch_embeds.numpy()
        return image_embeds.numpy(), patches


def hi_ml_image(model: nn.Module, image: ImageModel) -> ImageReference:
    """The reference of a model of `build_image_model`."""
    return ImageReference(
        model.eval(),
        image.preprocessing,
        image.architecture,
        image.grid,
        image.embedding_size,
        "PyTorch fp32 (hi-ml-multimodal)",
        lambda channels: image_embeddings(model, channels),
        image.images,
        partial(image_embeddings, model) if image.images > 1 else None,
    )
