"""CXR-BERT as its repository's own code has it, which PyTorch peers run: `modeling_cxrbert.py` on the hub.

The exporter's reference is hi-ml-multimodal's class, the same network; importing that package takes a second longer,
which people who run the hub's code do not wait for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM

__all__ = ["load_cxr_bert", "load_projection_head"]


class _ProjectionHead(nn.Module):
    def __init__(self, hidden: int, size: int) -> None:
        super().__init__()
        self.dense_to_hidden = nn.Linear(hidden, size)
        self.LayerNorm = nn.LayerNorm(size, eps=1e-12)
        self.dense_to_output = nn.Linear(size, size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.gelu(self.dense_to_hidden(hidden_states))
        projected: torch.Tensor = self.dense_to_output(self.LayerNorm(hidden))
        return projected


class _CXRBertModel(BertForMaskedLM):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.cls_projection_head = _ProjectionHead(config.hidden_size, config.projection_size)

    def embed(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Projected [CLS] embeddings, float32 (batch, 128), not normalized."""
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        projected: torch.Tensor = self.cls_projection_head(states[:, 0])
        return projected


def load_cxr_bert(folder: str, attention: str = "eager") -> Any:
    """The checkpoint's model in evaluation mode, with the method `embed`.

    Args:
        folder: the checkpoint.
        attention: transformers' `attn_implementation`.
    """
    config = BertConfig.from_pretrained(str(Path(folder)), attn_implementation=attention)
    return _CXRBertModel.from_pretrained(str(Path(folder)), config=config).eval()


def load_projection_head(file: Path) -> nn.Module:
    """The projection head alone, in evaluation mode.

    Args:
        file: its weights, of `torch.save`.
    """
    state = torch.load(file, weights_only=True)
    size, hidden = state["dense_to_hidden.weight"].shape
    head = _ProjectionHead(hidden, size)
    head.load_state_dict(state)
    return head.eval()
