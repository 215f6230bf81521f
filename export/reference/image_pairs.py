"""Image models of a current and a previous image as upstream builds them: hi-ml-multimodal's, of BioViL-T.

Upstream's loader gives a model of one image for the published file; the model of two is `MultiImageModel`, which has
the same tensors and without a previous image is the same function.

Source: hi-ml-multimodal, `image/model/model.py` and `image/model/encoder.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from export.families import ImageModel
from export.reference.hi_ml import hi_ml

__all__ = ["ENCODERS", "build_pair_model"]

# Architecture → hi-ml's name of the encoder.
ENCODERS: Mapping[str, str] = MappingProxyType({"resnet50+transformer": "resnet50_multi_image"})


def build_pair_model(image: ImageModel) -> nn.Module:
    """An untrained `health_multimodal.image.model.MultiImageModel`, with a ResNet as deep as the family says.

    Its parameters have the names of the published checkpoint: `encoder.encoder.…`, `encoder.backbone_to_vit.weight`,
    `encoder.vit_pooler.…`, `encoder.missing_previous_emb` and `projector.model.…`. The positions of patches are in no
    checkpoint; upstream computes them where the model is built.

    Args:
        image: the image tower.

    Raises:
        MissingExtraError: hi-ml-multimodal is not installed.
    """
    upstream, resnet = hi_ml("image.model.model").MultiImageModel, hi_ml("image.model.resnet").ResNetHIML
    # It learns its widths from passes through the ResNet, which take seconds with weights and none without.
    with torch.device("meta"):
        model: nn.Module = upstream(
            img_encoder_type=ENCODERS[image.architecture], joint_feature_size=image.embedding_size
        )
    encoder = model.encoder
    encoder.encoder = resnet(block=Bottleneck, layers=list(image.blocks))
    width = encoder.backbone_to_vit.out_channels
    # Built anew, not emptied: what it computes is no parameter and would be lost.
    pooler = hi_ml("image.model.transformer").VisionTransformerPooler
    encoder.vit_pooler = pooler(input_dim=width, grid_shape=encoder.vit_pooler.grid_shape)
    encoder.missing_previous_emb = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, width, 1, 1), std=0.02))
    for part in (encoder.backbone_to_vit, model.projector):
        part.to_empty(device=torch.get_default_device())
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()
    return model
