"""Vision transformers with less work: what is exported.

Exact rewrites (each is compared with the untouched model by tests and, at every export, by the parity gates), with what
they bring ViT-B/16 in fp32, batch 8, processor time of one core, largest difference of embeddings 5e-7:

* Pixels stay uint8: 1/255, mean and std are folded into the convolution that makes tokens of patches. It pads nothing,
  so that the mean becomes a bias. The attention scale is folded into the query, a layer scale into the maps before it.
  Together 1,186 → 1,161 ms on OpenVINO, nothing on ONNX Runtime; and a quarter of the bytes to move.
* Class token only in the last layer: the embedding reads that token, so the last layer computes keys and values for all
  tokens, but query, attention output and feed-forward for the class token alone: 1,259 → 1,161 ms on OpenVINO, 1,483 →
  1,411 on ONNX Runtime. The graph that embeds patches as well computes all of them, see `export.graphs.vit_faces`.

Patch embeddings are this project's own: what the model makes of the class token, final norm and projection, made of
each patch's token. Upstream trains and publishes none.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from export.graphs.image_rewrites import PixelConvolution, fold_pixels
from export.graphs.prenorm import PreNormBlock
from export.graphs.towers import vision_tower
from runtime.bundle.parts import Preprocessing

__all__ = ["VitGraph", "VitReference"]

# What F.normalize divides by at least.
_SHORTEST = 1e-12


class VitReference(Protocol):
    """What a vision transformer's graph is made of."""

    @property
    def model(self) -> nn.Module:
        """Upstream's; see `export.graphs.towers`."""

    @property
    def rule(self) -> Preprocessing:
        """Of its pictures."""


class VitGraph(nn.Module):
    """uint8 pixels → embeddings of chosen tokens."""

    def __init__(self, reference: VitReference) -> None:
        """Rewrite the vision tower of `reference.model`, which stays as it is.

        Raises:
            GraphError: a model that is not known, or a tower that computes something else.
        """
        super().__init__()
        tower = vision_tower(reference.model)
        conv, offset = fold_pixels(tower.patches, reference.rule)
        self.patches = PixelConvolution(conv.float(), offset)
        positions = tower.positions.detach()
        self.class_token = nn.Parameter((tower.class_token.detach() + positions[0])[None, None])
        self.positions = nn.Parameter(positions[None, 1:])
        self.first_norm = tower.first_norm
        self.blocks = nn.ModuleList(PreNormBlock(layer) for layer in tower.layers)
        self.final_norm, self.projection = tower.final_norm, tower.projection

    def forward(self, pixel_values: torch.Tensor, token_positions: torch.Tensor) -> torch.Tensor:
        """Embed some tokens.

        Args:
            pixel_values: uint8 (batch, 3, crop, crop), or (batch, crop, crop) of grey pictures.
            token_positions: int64 (tokens,): 0 is the class token, whose embedding is the picture's; patches follow,
                row by row.

        Returns:
            token_embeds, float32 (batch, tokens, D), unit norm.
        """
        patches = self.patches(pixel_values).flatten(2).transpose(1, 2) + self.positions
        class_token = self.class_token.expand(patches.shape[0], -1, -1)
        hidden = self.first_norm(torch.cat([class_token, patches], dim=1))

        def chosen(states: torch.Tensor) -> torch.Tensor:
            return states.index_select(1, token_positions)

        *others, last = self.blocks
        for block in others:
            hidden = block(hidden)
        states = self.final_norm(last(hidden, chosen=chosen))
        # As a matrix, so that the head is exported as Gemm, which stays in floating point: it costs next to nothing.
        projected = self.projection(states.flatten(0, 1)).unflatten(0, states.shape[:2])
        # Not F.normalize, which expands the norms to a shape with the number of tokens in it.
        return projected / torch.linalg.vector_norm(projected, dim=-1, keepdim=True).clamp_min(_SHORTEST)
