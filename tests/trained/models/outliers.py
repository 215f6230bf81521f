"""Channels far larger than the others, as big transformers have them, moved into a small one that learned without.

What a norm's gain multiplies, the layers behind it divide by: the same function, to the last bit, as the factor is a
power of two. Rounding with one scale for a whole tensor loses all other channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["FACTOR", "add_outliers"]

# With it, activations of 8 bits and one scale lose the small CLIP 7 to 9 points; with half of it, one.
FACTOR = 64.0
_CHANNELS = 2


def add_outliers(encoder: Any, seed: int) -> None:
    """Enlarge some channels of what each matrix of a CLIP encoder's attention and each first one of an MLP takes.

    Args:
        encoder: of transformers' CLIP; changed in place. The activations between the two matrices of an MLP stay, as
            quick-GELU lies before them.
        seed: of the choice of channels, other ones at each place.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in encoder.layers:
        attention = layer.self_attn
        _enlarge(layer.layer_norm1, [attention.q_proj, attention.k_proj, attention.v_proj], generator)
        _enlarge(attention.v_proj, [attention.out_proj], generator)
        _enlarge(layer.layer_norm2, [layer.mlp.fc1], generator)


def _enlarge(before: Any, behind: Sequence[torch.nn.Linear], generator: torch.Generator) -> None:
    """Outputs of a norm or linear layer, and the columns that they meet."""
    channels = torch.randperm(len(before.bias), generator=generator)[:_CHANNELS]
    with torch.no_grad():
        before.weight[channels] *= FACTOR
        before.bias[channels] *= FACTOR
        for linear in behind:
            linear.weight[:, channels] /= FACTOR
