"""The same functions as the image models, with less work: what is exported.

Exact rewrites (each is compared with the untouched model by tests and, at every export, by the parity gates):

* Grey images stay grey: the three input channels are equal and scaled by 1/255, so conv1's weights are summed over its
  input channels and divided by 255; the graph takes uint8 (batch, crop, crop).
* Batch normalization is folded into the convolution before it, in float64.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.reference import BioViLImageModel

__all__ = ["ImageEmbeddingGraph"]


class ImageEmbeddingGraph(nn.Module):
    """uint8 pixels → global and patch embeddings."""

    def __init__(self, model: BioViLImageModel) -> None:
        super().__init__()
        resnet, projector = model.encoder.encoder, model.projector.model
        self.stem = _fold(_grey(resnet.conv1), resnet.bn1)
        self.maxpool = resnet.maxpool
        stages = (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)
        self.blocks = nn.Sequential(*(_Block(block) for stage in stages for block in stage))
        self.projector_hidden = _fold(projector[0], projector[1])
        self.projector_output = projector[3]

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (batch, crop, crop) → image_embeds (batch, D), patch_embeds (batch, rows, columns, D), unit norm."""
        hidden = self.maxpool(F.relu(self.stem(pixel_values.unsqueeze(1).to(self.stem.weight.dtype))))
        projected = self.projector_output(F.relu(self.projector_hidden(self.blocks(hidden))))
        image_embeds = F.normalize(projected.mean(dim=(2, 3)), dim=-1)
        patch_embeds = F.normalize(projected.permute(0, 2, 3, 1), dim=-1)
        return image_embeds, patch_embeds


class _Block(nn.Module):
    """A bottleneck block with its batch normalizations folded."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.reduce = _fold(block.conv1, block.bn1)
        self.spatial = _fold(block.conv2, block.bn2)
        self.expand = _fold(block.conv3, block.bn3)
        self.shortcut = nn.Identity() if block.downsample is None else _fold(*block.downsample)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        residual = self.expand(F.relu(self.spatial(F.relu(self.reduce(hidden)))))
        return F.relu(residual + self.shortcut(hidden))


def _grey(conv: nn.Conv2d) -> nn.Conv2d:
    grey = nn.Conv2d(1, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=False).double()
    grey.weight = nn.Parameter(conv.weight.detach().double().sum(dim=1, keepdim=True) / 255.0)
    return grey


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    conv, norm = copy.deepcopy(conv).double().eval(), copy.deepcopy(norm).double().eval()
    return fuse_conv_bn_eval(conv, norm).float()
