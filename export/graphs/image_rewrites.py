"""The same functions as the image models, with less work: what is exported.

Exact rewrites (each is compared with the untouched model by tests and, at every export, by the parity gates):

* Pixels stay uint8: 1/255, mean and std are folded into the first convolution.
* Grey images stay grey: their three channels are equal, so that the weights are summed over the input channels.
* Batch normalization is folded into the convolution before it, in float64.

They go by the shape of what they are given: a ResNet of basic or bottleneck blocks and a projector of convolutions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.errors import GraphError
from runtime.bundle.parts import Preprocessing

__all__ = ["Block", "ImageEmbeddingGraph", "PixelConvolution", "fold", "fold_pixels", "folded"]

_WHITE = 255.0


class ImageEmbeddingGraph(nn.Module):
    """uint8 pixels → global and patch embeddings."""

    def __init__(
        self,
        model: nn.Module,
        rule: Preprocessing,
        *,
        patches: bool = True,
        projector: Sequence[nn.Module] | None = None,
    ) -> None:
        """Rewrite a model; it stays as it is.

        Args:
            model: `encoder.encoder` is a ResNet, `projector.model` a sequence of convolutions, batch normalizations and
                ReLUs.
            rule: of its pictures.
            patches: whether the graph embeds patches too.
            projector: what follows the ResNet, where that is not `projector.model`.

        Raises:
            GraphError: it has another shape.
        """
        super().__init__()
        resnet = model.encoder.encoder
        conv, offset = fold_pixels(resnet.conv1, rule)
        self.stem = PixelConvolution(fold(conv, resnet.bn1), offset)
        self.maxpool = resnet.maxpool
        stages = (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)
        self.blocks = nn.Sequential(*(Block(block) for stage in stages for block in stage))
        self.projector = nn.Sequential(*folded(model.projector.model if projector is None else projector))
        self.patches = patches

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Embed pixels.

        Args:
            pixel_values: uint8 (batch, crop, crop), or (batch, 3, crop, crop) for RGB.

        Returns:
            image_embeds (batch, D) and, of patches, patch_embeds (batch, rows, columns, D), unit norm.
        """
        hidden = self.maxpool(F.relu(self.stem(pixel_values)))
        projected = self.projector(self.blocks(hidden))
        image_embeds = F.normalize(projected.mean(dim=(2, 3)), dim=-1)
        if not self.patches:
            return (image_embeds,)
        patch_embeds = F.normalize(projected.permute(0, 2, 3, 1), dim=-1)
        return image_embeds, patch_embeds


class PixelConvolution(nn.Module):
    """uint8 pixels → what a model's first convolution makes of the normalized ones."""

    def __init__(self, conv: nn.Conv2d, offset: torch.Tensor | None) -> None:
        """Take what `fold_pixels` gives.

        Args:
            conv: on pixel values from 0 to 255, grey ones where it has a single channel.
            offset: see `fold_pixels`.
        """
        super().__init__()
        self.conv = conv
        self.register_buffer("offset", None if offset is None else offset.to(conv.weight.dtype))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """uint8 (batch, crop, crop) or (batch, 3, crop, crop) → (batch, channels, rows, columns)."""
        hidden = pixel_values.to(self.conv.weight.dtype)
        if hidden.ndim == 3:
            hidden = hidden.unsqueeze(1)
        return self.conv(hidden if self.offset is None else hidden - self.offset)


def fold_pixels(conv: nn.Conv2d, rule: Preprocessing) -> tuple[nn.Conv2d, torch.Tensor | None]:
    """Fold 1/255, mean and std into a convolution, and its channels into one where they would all be the same.

    With x = (v/255 - mean)/std, Σ_c w_c·x_c = Σ_c w_c/(255·std_c)·v_c - Σ_c w_c·mean_c/std_c: new weights, and a bias.
    That is wrong where the convolution pads with zeros, since those stand for normalized values, not for v = 0. There
    the subtraction stays in the graph, before the padding; without a mean there is none.

    Args:
        conv: the first convolution of a model, of one or three channels in one group.
        rule: mean and std, and whether pictures are grey.

    Returns:
        A convolution in float64 for values from 0 to 255; and what is subtracted from them before: float64 (channels,
        1, 1), or None.

    Raises:
        GraphError: a convolution of another shape.
    """
    if conv.groups != 1 or conv.in_channels not in (1, 3):
        raise GraphError(
            f"The first convolution has {conv.in_channels} channels in {conv.groups} groups; 1 or 3 in one group are "
            "expected."
        )
    weight = conv.weight.detach().double()
    mean, std = (
        torch.tensor(each, dtype=torch.float64).expand(conv.in_channels)[:, None, None]
        for each in (rule.mean, rule.std)
    )
    padded = conv.padding != "valid" and (conv.padding == "same" or any(conv.padding))
    grey = len(rule.shape) == 2
    offset, bias = None, None if conv.bias is None else conv.bias.detach().double()
    if mean.any() and padded:
        # Where the means differ, each channel needs its own copy of a grey picture.
        grey = grey and bool((mean == mean[0]).all())
        offset = _WHITE * (mean[:1] if grey else mean)
    elif mean.any():
        bias = (0 if bias is None else bias) - (weight * (mean / std)).sum(dim=(1, 2, 3))
    weight = weight / std
    weight = (weight.sum(dim=1, keepdim=True) if grey else weight) / _WHITE
    folded = copy.deepcopy(conv)  # with its stride, padding and dilation
    folded.in_channels = weight.shape[1]
    folded.weight = nn.Parameter(weight)
    folded.bias = None if bias is None else nn.Parameter(bias)
    return folded, offset


class Block(nn.Module):
    """A block of a ResNet, basic or bottleneck, with its batch normalizations folded."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        count = 3 if hasattr(block, "conv3") else 2
        self.convolutions = nn.ModuleList(
            fold(getattr(block, f"conv{number}"), getattr(block, f"bn{number}")) for number in range(1, count + 1)
        )
        self.shortcut = nn.Identity() if block.downsample is None else fold(*block.downsample)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """float (batch, channels, rows, columns) → what the block makes of it."""
        residual = hidden
        *others, last = self.convolutions
        for convolution in others:
            residual = F.relu(convolution(residual))
        return F.relu(last(residual) + self.shortcut(hidden))


def folded(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Convolutions with the batch normalizations after them folded in, and ReLUs.

    Raises:
        GraphError: other layers.
    """
    found: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and found and isinstance(found[-1], nn.Conv2d):
            found[-1] = fold(found[-1], layer)
        elif isinstance(layer, nn.Conv2d):
            found.append(copy.deepcopy(layer))
        elif isinstance(layer, nn.ReLU):
            found.append(nn.ReLU())
        else:
            raise GraphError(
                f"The projector has a {type(layer).__name__}; convolutions, batch normalizations and ReLU are expected."
            )
    return found


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution and the batch normalization after it as one convolution, in float32; both stay as they are."""
    conv, norm = copy.deepcopy(conv).double().eval(), copy.deepcopy(norm).double().eval()
    return fuse_conv_bn_eval(conv, norm).float()
