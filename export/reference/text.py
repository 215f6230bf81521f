"""The text models as upstream builds them.

Source: hi-ml-multimodal, `text/model/modelling_cxrbert.py` (CXRBertModel, BertProjectionHead). The encoder itself is
transformers'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from export.families import TextModel

__all__ = ["CXRBertModel", "bert_config", "pool"]

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
