"""The same functions as the text models, with less work: what is exported.

Exact rewrites (each is compared with the untouched model by tests and, at every export, by the parity gates):

* [CLS]-only last layer: the embedding reads position 0, so the last layer computes keys and values for all tokens, but
  query, attention output and feed-forward for [CLS] alone.
* The masked-language head where the masks are: the same graph with [MASK] in the place of [CLS], so that its
  vocabulary-wide product, and the last layer before it, are computed for masked tokens alone.
* Texts side by side: a row holds several texts, each attending to itself alone, its positions counted from 0, its
  embedding read where it begins. Rows can then be filled where padding would be computed.
* The only token type that occurs is added to the position embeddings beforehand, and the attention scale to the query.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from export.graphs.activations import fusible
from export.graphs.attention import MASKED, Attention, additive_mask
from export.graphs.causal_text import CausalTextGraph
from export.reference import AnyText, TextReference
from export.reference.text import SUMMED_LAYERS

__all__ = ["PackedTextGraph", "TextEmbeddingGraph", "text_graph"]


class TextEmbeddingGraph(nn.Module):
    """Token ids → one embedding per text, normalized and not."""

    def __init__(self, reference: TextReference) -> None:
        super().__init__()
        embeddings = reference.encoder.embeddings
        self.word_embeddings = embeddings.word_embeddings
        positions = embeddings.position_embeddings.weight.detach() + embeddings.token_type_embeddings.weight[0].detach()
        self.positions = nn.Parameter(positions)
        self.embedding_norm = embeddings.LayerNorm
        self.layers = reference.encoder.encoder.layer
        inner = [layer.attention.self for layer in self.layers]
        self.attentions = nn.ModuleList(Attention(each.query, each.key, each.value, reference.heads) for each in inner)
        self.activations = nn.ModuleList(fusible(layer.intermediate.intermediate_act_fn) for layer in self.layers)
        self.projection_head = reference.projection
        self.pooling = reference.pooling
        self.divisor = float(reference.longest)  # GLoRIA's mean is over all positions, padding included

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """int64 (batch, sequence) twice → text_embeds, unnormalized_embeds: float32 (batch, D) each.

        A text a row is a special case of several; `export.graphs.packing` does the same to the exported `packed`.
        """
        rows, width = input_ids.shape
        position_ids = torch.arange(width, device=input_ids.device).expand(rows, width)
        text_positions = torch.zeros(rows, 1, dtype=torch.int64, device=input_ids.device)
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
            text_positions: int64 (rows, texts), where each text begins.

        Returns:
            text_embeds and unnormalized_embeds, float32 (rows, texts, D).
        """
        states, owned = self.states(input_ids, position_ids, segment_ids, text_positions)
        return self.embeddings(states, owned)

    def states(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        segment_ids: torch.Tensor,
        positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The last layer's states: what every head reads.

        Args:
            input_ids, position_ids, segment_ids: as for `packed`.
            positions: int64 (rows, places), the tokens that are asked about, [CLS] of each text or [MASK].

        Returns:
            float32 (rows, places, D), or (rows, width, D) where all tokens are pooled, of the last four layers' states
            their sums where those are; and bool (rows, places, width), which tokens are of the same text.
        """
        # Not positions[position_ids], which is exported with a guard on each index.
        hidden = self.embedding_norm(self.word_embeddings(input_ids) + F.embedding(position_ids, self.positions))
        rows, width = input_ids.shape
        # One Gather from the rows laid end to end: engines are quicker at it than at GatherElements.
        places = positions + width * torch.arange(rows, device=input_ids.device)[:, None]
        own = segment_ids[:, :, None] == segment_ids[:, None, :]
        owned = F.embedding(places, segment_ids.reshape(-1, 1)) == segment_ids[:, None, :]
        mask = additive_mask(own, hidden)
        last = len(self.layers) - 1 if self.pooling == "cls" else None
        summed: torch.Tensor | None = None
        layers = zip(self.layers, self.attentions, self.activations, strict=True)
        for index, (layer, attention, activation) in enumerate(layers):
            queries = hidden
            if index == last:
                queries, mask = F.embedding(places, hidden.flatten(0, 1)), additive_mask(owned, hidden)
            context = layer.attention.output.dense(attention(queries, hidden, mask))
            attended = layer.attention.output.LayerNorm(context + queries)
            expanded = activation(layer.intermediate.dense(attended))
            hidden = layer.output.LayerNorm(layer.output.dense(expanded) + attended)
            if self.pooling == "layers" and len(self.layers) - index <= SUMMED_LAYERS:
                summed = hidden if summed is None else summed + hidden
        return hidden if summed is None else summed, owned

    def embeddings(self, states: torch.Tensor, owned: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """text_embeds and unnormalized_embeds of what `states` gives."""
        if self.pooling == "mean":
            weights = owned.to(states.dtype)
            states = (weights @ states) / weights.sum(dim=-1, keepdim=True)
        elif self.pooling == "layers":
            states = (owned.to(states.dtype) @ states) / self.divisor
        elif self.pooling == "max":
            # Every text of a row looks at all its tokens: (rows, texts, width, D).
            states = (states[:, None] + (1.0 - owned[..., None].to(states.dtype)) * MASKED).amax(dim=2)
        # As a matrix, so that the head is exported as Gemm, which stays in floating point: it costs next to nothing.
        projected = self.projection_head(states.flatten(0, 1)).unflatten(0, owned.shape[:2])
        return F.normalize(projected, dim=-1), projected


class PackedTextGraph(nn.Module):
    """A graph's `packed` as what torch exports, with the states before the head, where it may be cut."""

    def __init__(self, graph: TextEmbeddingGraph | CausalTextGraph) -> None:
        super().__init__()
        self.encoder = graph

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        segment_ids: torch.Tensor,
        text_positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `TextEmbeddingGraph`: text_embeds, unnormalized_embeds, last_hidden_state."""
        states, owned = self.encoder.states(input_ids, position_ids, segment_ids, text_positions)
        return *self.encoder.embeddings(states, owned), states


def text_graph(reference: AnyText) -> TextEmbeddingGraph | CausalTextGraph:
    """The rewritten network of a text model, by its architecture.

    Raises:
        GraphError: see `CausalTextGraph`.
    """
    return TextEmbeddingGraph(reference) if isinstance(reference, TextReference) else CausalTextGraph(reference)
