"""The image models as upstream builds them.

Source: hi-ml-multimodal, `image/model/` (ImageModel, ImageEncoder, MLP). The trunk itself is torchvision's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from export.families import ImageModel

__all__ = ["BioViLImageModel"]


class _Trunk(nn.Module):
    """Upstream's ImageEncoder: a wrapper that gives the ResNet its doubled name `encoder.encoder`."""

    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        # fc stays: upstream's checkpoints carry it, unused.
        self.encoder = ResNet(Bottleneck, list(blocks))


class _Projector(nn.Module):
    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(input_size, output_size, kernel_size=1, bias=False),
            nn.BatchNorm2d(output_size),
            nn.ReLU(inplace=True),
            nn.Conv2d(output_size, output_size, kernel_size=1, bias=True),
        )


class BioViLImageModel(nn.Module):
    """ResNet trunk (`encoder.encoder.…`) and 1×1-convolution projector (`projector.model.…`)."""

    def __init__(self, image: ImageModel) -> None:
        super().__init__()
        self.encoder = _Trunk(image.blocks)
        self.projector = _Projector(512 * Bottleneck.expansion, image.embedding_size)

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Global and patch embeddings.

        Args:
            pixels: float32 (batch, 3, crop, crop) in [0, 1], three equal channels.

        Returns:
            float32 (batch, D): spatial mean of the projected patches, then unit norm; and float32 (batch, rows,
            columns, D): every patch with unit norm.
        """
        resnet = self.encoder.encoder
        hidden = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(pixels))))
        for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
            hidden = stage(hidden)
        projected = self.projector.model(hidden)
        image_embeds = F.normalize(projected.mean(dim=(2, 3)), dim=-1)
        patch_embeds = F.normalize(projected, dim=1).permute(0, 2, 3, 1)
        return image_embeds, patch_embeds
