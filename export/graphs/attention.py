"""Multi-head attention as all transformers here are exported: the scale in the query, masks of any shape added."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["MASKED", "Attention", "additive_mask"]

# exp() of anything this far below the largest score is 0 in float32; unlike float32's minimum it fits float16.
MASKED = -10000.0


class Attention(nn.Module):
    """One layer's attention without its output projection."""

    def __init__(self, query: nn.Linear, key: nn.Linear, value: nn.Linear, heads: int) -> None:
        """Fold the scale 1/√size into the query; the given layers stay as they are.

        Args:
            query, key, value: of one width each, with or without a bias.
            heads: by which the width can be divided.
        """
        super().__init__()
        self.key, self.value = key, value
        self.heads = heads
        scale = (query.out_features // heads) ** -0.5
        self.query = nn.Linear(query.in_features, query.out_features, bias=query.bias is not None)
        self.query.weight = nn.Parameter(query.weight.detach() * scale)
        if query.bias is not None:
            self.query.bias = nn.Parameter(query.bias.detach() * scale)

    def forward(self, queries: torch.Tensor, hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Let some states attend to all.

        Args:
            queries: float (rows, places, D).
            hidden: float (rows, width, D).
            mask: what is added to the scores, broadcast to (rows, heads, places, width); None hides nothing.

        Returns:
            float (rows, places, D).
        """
        query = self._split(self.query(queries))
        key = self._split(self.key(hidden))
        value = self._split(self.value(hidden))
        scores = query @ key.transpose(-1, -2)
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        return (weights @ value).transpose(1, 2).flatten(2)

    def _split(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def additive_mask(visible: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """bool (rows, queries, width) → what is added to attention scores, in the type of `hidden`: 0 where visible."""
    return (1.0 - visible[:, None].to(hidden.dtype)) * MASKED
