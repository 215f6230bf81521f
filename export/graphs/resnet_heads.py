"""A ResNet with a head behind its last stage and perhaps one behind its third, as GLoRIA's and ConVIRT's are.

The rewrites of `export.graphs.image_rewrites`, and of GLoRIA's enlargement: what the network subtracts from pixels is
subtracted from the small image, of which a grey one stays grey, and which is enlarged then: bilinear weights add up to
1. Only the subtraction before the first convolution's padding is exact.

The enlargement is two products with a matrix of torch's own weights. Engines compute those of a Resize node from
positions up to 223, each rounded in its own way: patches came out 2.3e-5 apart, now 2.5e-6.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from export.graphs.image_rewrites import Block, fold, fold_pixels
from export.reference.gloria import ConvirtImage, GloriaImage
from runtime.bundle.parts import Preprocessing

__all__ = ["HEADS", "ResNetHeadsGraph"]

# Of `ImageReference.architecture`.
HEADS = ("resnet50-local", "resnet50-mlp")


class ResNetHeadsGraph(nn.Module):
    """uint8 pixels → global and, of GLoRIA, patch embeddings."""

    def __init__(self, model: GloriaImage | ConvirtImage, rule: Preprocessing) -> None:
        """Rewrite a model; it stays as it is.

        Args:
            model: in evaluation mode.
            rule: of its pictures.
        """
        super().__init__()
        resnet = model.model
        conv, offset = fold_pixels(resnet.conv1, rule)
        self.stem = fold(conv, resnet.bn1)
        self.register_buffer("offset", None if offset is None else offset.float())
        enlarge = None if model.enlarged is None else _enlargement(rule.crop, model.enlarged)
        self.register_buffer("enlarge", enlarge)
        self.maxpool = resnet.maxpool
        first = (*resnet.layer1, *resnet.layer2, *resnet.layer3)
        self.first = nn.Sequential(*(Block(block) for block in first))
        self.last = nn.Sequential(*(Block(block) for block in resnet.layer4))
        self.head = copy.deepcopy(model.head)
        self.local = copy.deepcopy(model.local)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Embed pixels.

        Args:
            pixel_values: uint8 (batch, crop, crop), or (batch, 3, crop, crop) for RGB.

        Returns:
            image_embeds (batch, D), unit norm; with patches patch_embeds (batch, rows, columns, D), unit norm, and
            patch_norms (batch, rows, columns), the norms that they had, which attention goes by.
        """
        hidden = pixel_values.to(self.stem.weight.dtype)
        hidden = hidden.unsqueeze(1) if hidden.ndim == 3 else hidden
        hidden = hidden if self.offset is None else hidden - self.offset
        if self.enlarge is not None:
            hidden = self.enlarge @ hidden @ self.enlarge.T
        third = self.first(self.maxpool(F.relu(self.stem(hidden))))
        image_embeds = F.normalize(self.head(self.last(third).mean(dim=(2, 3))), dim=-1)
        if self.local is None:
            return (image_embeds,)
        patches = self.local(third).permute(0, 2, 3, 1)
        return image_embeds, F.normalize(patches, dim=-1), patches.norm(dim=-1)


def _enlargement(side: int, enlarged: int) -> torch.Tensor:
    """float32 (enlarged, side): what torch's bilinear enlargement with aligned corners does along an axis."""
    rows = torch.eye(side)[None, None]
    return F.interpolate(rows, size=(enlarged, side), mode="bilinear", align_corners=True)[0, 0]
