"""CLIP's text transformer with less work: what is exported.

Exact rewrites (each is compared with the untouched model by tests and, at every export, by the parity gates), with what
they bring CLIP B/32's text transformer in fp32, processor time of one core, largest differences of embeddings 2e-7:

* Last token only in the last layer: the embedding reads each text's end token, so the last layer computes keys and
  values for all tokens, but query, attention output and feed-forward for that one alone: 8 × 64 tokens take 178 → 167
  ms on OpenVINO, 200 → 185 on ONNX Runtime.
* No padding to 77 tokens: a token sees those before it alone, so that nothing behind the end token matters. Sorted and
  padded to the longest of each batch: 35 → 56 reports cut at 77 tokens a second on OpenVINO, 36 → 173 prompts of 5 to
  24 tokens (ONNX Runtime: 35 → 57, 34 → 164).
* Texts side by side: a row holds several texts, each attending to itself alone, its positions counted from 0, its
  embedding read where it ends: 58 and 188 texts a second on OpenVINO (ONNX Runtime, whose attention is not fused: 54
  and 169).
* The attention scale is folded into the query.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from export.graphs.attention import additive_mask
from export.graphs.prenorm import PreNormBlock
from export.graphs.towers import text_tower

__all__ = ["CausalTextGraph"]


class _Reference(Protocol):
    @property
    def model(self) -> nn.Module: ...


class CausalTextGraph(nn.Module):
    """Token ids → one embedding per text, normalized and not; `PackedTextGraph` is what torch exports."""

    def __init__(self, reference: _Reference) -> None:
        """Rewrite the text tower of `reference.model`, which stays as it is; see `export.graphs.towers`.

        Raises:
            GraphError: a model that is not known, or a tower that computes something else.
        """
        super().__init__()
        tower = text_tower(reference.model)
        self.tokens, self.positions = nn.Parameter(tower.tokens.detach()), nn.Parameter(tower.positions.detach())
        self.blocks = nn.ModuleList(PreNormBlock(layer) for layer in tower.layers)
        self.final_norm, self.projection = tower.final_norm, tower.projection

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A text a row, padded on the right; `export.graphs.packing` does the same to the exported `packed`.

        Args:
            input_ids: int64 (batch, sequence).
            attention_mask: int64 (batch, sequence), 1 for tokens, 0 for padding.

        Returns:
            text_embeds and unnormalized_embeds, float32 (batch, D).
        """
        rows, width = input_ids.shape
        position_ids = torch.arange(width, device=input_ids.device).expand(rows, width)
        text_positions = attention_mask.sum(dim=1, keepdim=True) - 1
        text_embeds, projected = self.packed(input_ids, position_ids, attention_mask, text_positions)
        return text_embeds.squeeze(1), projected.squeeze(1)

    def packed(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        segment_ids: torch.Tensor,
        text_positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Several texts a row.

        Args:
            input_ids: int64 (rows, width), one text after the other.
            position_ids: int64 (rows, width), from 0 within each text.
            segment_ids: int64 (rows, width), equal within a text and different from its neighbours'.
            text_positions: int64 (rows, texts), where each text ends.

        Returns:
            text_embeds and unnormalized_embeds, float32 (rows, texts, D).
        """
        return self.embeddings(*self.states(input_ids, position_ids, segment_ids, text_positions))

    def states(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        segment_ids: torch.Tensor,
        positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The last layer's normalized states at some tokens.

        Args:
            input_ids, position_ids, segment_ids: as for `packed`.
            positions: int64 (rows, places), the tokens that are asked about.

        Returns:
            float32 (rows, places, D); and bool (rows, places, width), which tokens each of them sees.
        """
        hidden = F.embedding(input_ids, self.tokens) + F.embedding(position_ids, self.positions)
        rows, width = input_ids.shape
        # One Gather from the rows laid end to end: engines are quicker at it than at GatherElements.
        places = positions + width * torch.arange(rows, device=input_ids.device)[:, None]

        def chosen(states: torch.Tensor) -> torch.Tensor:
            return F.embedding(places, states.flatten(0, 1))

        def visible(segments: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
            return (segments == segment_ids[:, None, :]) & (own >= position_ids[:, None, :])

        mask = additive_mask(visible(segment_ids[:, :, None], position_ids[:, :, None]), hidden)
        seen = visible(chosen(segment_ids[:, :, None]), chosen(position_ids[:, :, None]))
        *others, last = self.blocks
        for block in others:
            hidden = block(hidden, mask)
        return self.final_norm(last(hidden, additive_mask(seen, hidden), chosen)), seen

    def embeddings(self, states: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """text_embeds and unnormalized_embeds of what `states` gives."""
        # As a matrix, so that the head is exported as Gemm, which stays in floating point: it costs next to nothing.
        projected = self.projection(states.flatten(0, 1)).unflatten(0, seen.shape[:2])
        return F.normalize(projected, dim=-1), projected
