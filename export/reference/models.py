"""The PyTorch reference: the architectures with upstream's parameter names, nothing rewritten.

Sources: hi-ml-multimodal, `text/model/modelling_cxrbert.py` (CXRBertModel, BertProjectionHead) and `image/model/`
(ImageModel, ImageEncoder, MLP). The encoders themselves are transformers' and torchvision's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet
from transformers import BertConfig, BertForMaskedLM

from export.families import ImageModel, TextModel

__all__ = ["BioViLImageModel", "CXRBertModel", "bert_config", "pool"]

_CONFIG_KEYS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
)


def bert_config(config: Mapping[str, Any]) -> BertConfig:
    """transformers' configuration from the fields of a CXR-BERT config.json that shape the network.

    Attention is computed step by step ("eager"), as the paper's models were.
    """
    chosen = BertConfig(**{key: config[key] for key in _CONFIG_KEYS if key in config}, attn_implementation="eager")
    chosen.projection_size = config.get("projection_size", chosen.hidden_size)
    return chosen


class _ProjectionHead(nn.Module):
    def __init__(self, hidden_size: int, projection_size: int) -> None:
        super().__init__()
        self.dense_to_hidden = nn.Linear(hidden_size, projection_size)
        self.LayerNorm = nn.LayerNorm(projection_size, eps=1e-12)
        self.dense_to_output = nn.Linear(projection_size, projection_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = F.gelu(self.dense_to_hidden(hidden_states))
        return self.dense_to_output(self.LayerNorm(hidden_states))


def pool(hidden: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector per text: float (batch, sequence, D) → (batch, D); "cls" or "mean", as in `TextModel`."""
    if pooling == "cls":
        return hidden[:, 0]
    weights = attention_mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


class CXRBertModel(BertForMaskedLM):
    """BERT with a masked-language head (`cls.…`) and a projection head for [CLS] (`cls_projection_head.…`).

    `TextModel` may ask for a model without projection head, or for the mean of all tokens instead of [CLS].
    """

    def __init__(self, config: BertConfig, text: TextModel | None = None) -> None:
        super().__init__(config)
        text = text or TextModel()
        self.pooling = text.pooling
        self.cls_projection_head = (
            _ProjectionHead(config.hidden_size, config.projection_size) if text.projection else nn.Identity()
        )

    @torch.no_grad()
    def cls_projection(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Projected embeddings of texts, not normalized.

        Args:
            input_ids: int64 (batch, sequence).
            attention_mask: int64 (batch, sequence), 1 for tokens, 0 for padding.

        Returns:
            float32 (batch, projection_size).
        """
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.cls_projection_head(pool(hidden, attention_mask, self.pooling))


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
