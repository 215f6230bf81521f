"""GLoRIA's and ConVIRT's networks, written anew: of neither is there a package that can be installed.

Names of parameters are those of GLoRIA's published checkpoint, and of ConVIRT's in the layout of this project.

Sources: GLoRIA, `gloria/models/vision_model.py` (`ImageEncoder`) and `text_model.py` (`BertEncoder`); Zhang et al.,
"Contrastive Learning of Medical Visual Representations from Paired Images and Text" (2020), section 2.3, for ConVIRT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from export.families import ImageModel
from export.reference.image import ImageReference

__all__ = [
    "ConvirtImage",
    "GloriaImage",
    "aggregate_words",
    "convirt_image",
    "gloria_image",
    "two_layers",
]

# Side that pixels are enlarged to.
_ENLARGED = 299
_THIRD_STAGE, _FOURTH_STAGE = 1024, 2048


class GloriaImage(nn.Module):
    """A ResNet-50 whose third stage embeds patches, and whose last one the image.

    Attributes:
        model: torchvision's, without its classifier.
        enlarged: side that pixels are enlarged to.
    """

    enlarged: int | None = _ENLARGED

    def __init__(self, blocks: Sequence[int] = (3, 4, 6, 3), size: int = 768) -> None:
        """Build it untrained, with `blocks` in its stages, for embeddings of `size`."""
        super().__init__()
        self.model = _trunk(blocks)
        self.global_embedder = nn.Linear(_FOURTH_STAGE, size)
        self.local_embedder = nn.Conv2d(_THIRD_STAGE, size, kernel_size=1, stride=1, padding=0, bias=False)

    @property
    def head(self) -> nn.Module:
        """What makes embeddings of the last stage's mean."""
        return self.global_embedder

    @property
    def local(self) -> nn.Conv2d | None:
        """What makes embeddings of the third stage's places."""
        return self.local_embedder

    def forward(self, channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (N, 3, 224, 224) → (N, D) and (N, D, 19, 19), neither normalized."""
        x = nn.Upsample(size=(_ENLARGED, _ENLARGED), mode="bilinear", align_corners=True)(channels)
        third, last = _stages(self.model, x)
        return self.global_embedder(last.mean(dim=(2, 3))), self.local_embedder(third)


class ConvirtImage(nn.Module):
    """A ResNet-50 whose mean goes through two layers; attributes as those of `GloriaImage`."""

    enlarged: int | None = None
    local: nn.Conv2d | None = None

    def __init__(self, blocks: Sequence[int] = (3, 4, 6, 3), size: int = 512) -> None:
        """Build it untrained."""
        super().__init__()
        self.model = _trunk(blocks)
        self.projection = two_layers(_FOURTH_STAGE, size)

    @property
    def head(self) -> nn.Module:
        """What makes embeddings of the last stage's mean."""
        return self.projection

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        """float32 (N, 3, 224, 224) → (N, D), not normalized."""
        _, last = _stages(self.model, channels)
        embeddings: torch.Tensor = self.projection(last.mean(dim=(2, 3)))
        return embeddings


def two_layers(width: int, size: int) -> nn.Sequential:
    """A layer as wide as its input, ReLU, a layer to `size`, both with biases."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size))


def gloria_image(model: GloriaImage, image: ImageModel) -> ImageReference:
    """The reference of a model."""

    def forward(channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        image_embeds, patches = model(channels)
        return F.normalize(image_embeds, dim=-1), F.normalize(patches, dim=1).permute(0, 2, 3, 1)

    return _reference(model, image, "PyTorch fp32 (torchvision's ResNet, GLoRIA's heads)", forward)


def convirt_image(model: ConvirtImage, image: ImageModel) -> ImageReference:
    """The reference of a model."""
    name = "PyTorch fp32 (torchvision's ResNet, ConVIRT's head)"
    return _reference(model, image, name, lambda channels: (F.normalize(model(channels), dim=-1), None))


def _reference(model: nn.Module, image: ImageModel, name: str, forward: Any) -> ImageReference:
    return ImageReference(
        model.eval(), image.preprocessing, image.architecture, image.grid, image.embedding_size, name, forward
    )


def _trunk(blocks: Sequence[int]) -> ResNet:
    model = ResNet(Bottleneck, list(blocks))
    model.fc = nn.Identity()
    return model


def _stages(model: ResNet, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of the third and fourth stage."""
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    third = model.layer3(model.layer2(model.layer1(x)))
    return third, model.layer4(third)


def aggregate_words(states: torch.Tensor, tokens: Sequence[str]) -> tuple[torch.Tensor, list[str]]:
    """States of word pieces added up to those of words, as `BertEncoder.aggregate_tokens` does.

    Args:
        states: float32 (sequence, D) of one text, from [CLS] on.
        tokens: of the vocabulary: "ate", "##lect", "##asis".

    Returns:
        float32 (sequence, D): a row for each word up to [SEP], then zeros; and the words, then "[PAD]".
    """
    words: list[str] = []
    sums: list[torch.Tensor] = []
    for state, token in zip(states, tokens, strict=True):
        if token.startswith("##") and words:
            words[-1] += token[2:]
            sums[-1] = sums[-1] + state
        else:
            words.append(token)
            sums.append(state)
        if token == "[SEP]":
            break
    padding = len(states) - len(words)
    return torch.cat([torch.stack(sums), states.new_zeros(padding, states.shape[1])]), [*words, *["[PAD]"] * padding]
