"""Layers of pre-norm transformers, read from upstream's own modules into one form, and run with the same rewrites.

CLIP's text transformer and all vision transformers here are made of them: transformers' `CLIPEncoderLayer`, open_clip's
`ResidualAttentionBlock`, timm's `Block`. They differ in names and in how query, key and value are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from export.errors import GraphError
from export.graphs.activations import fusible
from export.graphs.attention import Attention

__all__ = ["PreNormBlock", "PreNormLayer", "linear_of", "plain_norm", "read_layers"]


@dataclass(frozen=True)
class PreNormLayer:
    """x += output(attention(norm1(x))); x += fc2(activation(fc1(norm2(x)))).

    Attributes:
        query, key, value: of the attention, without the scale.
        heads: of the attention.
        activation: element by element.
    """

    norm1: nn.LayerNorm
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    heads: int
    norm2: nn.LayerNorm
    fc1: nn.Linear
    activation: nn.Module
    fc2: nn.Linear


class PreNormBlock(nn.Module):
    """A layer as it is exported: some tokens ask, all are seen."""

    def __init__(self, layer: PreNormLayer) -> None:
        """Take a layer; its modules are used as they are, only the query is a scaled copy."""
        super().__init__()
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        self.attention = Attention(layer.query, layer.key, layer.value, layer.heads)
        self.output, self.fc1, self.fc2 = layer.output, layer.fc1, layer.fc2
        self.activation = fusible(layer.activation)

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None = None,
        chosen: Callable[[torch.Tensor], torch.Tensor] = lambda states: states,
    ) -> torch.Tensor:
        """Run the layer for all tokens, or for some with all as their context.

        Args:
            hidden: float (rows, width, D).
            mask: what is added to the scores, broadcast to (rows, heads, places, width).
            chosen: takes the tokens that are asked for, (rows, width, D) → (rows, places, D).

        Returns:
            float (rows, places, D).
        """
        normalized = self.norm1(hidden)
        attended = chosen(hidden) + self.output(self.attention(chosen(normalized), normalized, mask))
        expanded: torch.Tensor = self.fc2(self.activation(self.fc1(self.norm2(attended))))
        return attended + expanded


def read_layers(layers: Iterable[nn.Module]) -> list[PreNormLayer]:
    """The layers of an encoder in one form.

    Args:
        layers: upstream's modules, one a layer.

    Raises:
        GraphError: a class that is not known, or a layer that computes something else besides.
    """
    found = []
    for layer in layers:
        read = _READERS.get(type(layer).__name__)
        if read is None:
            raise GraphError(f"A layer is a {type(layer).__name__}; there are rewrites for {', '.join(_READERS)}.")
        found.append(read(layer))
    return found


def plain_norm(norm: nn.Module) -> nn.LayerNorm:
    """The normalization as torch's own class, with the same parameters: others cast to and fro.

    Raises:
        GraphError: it is none.
    """
    if not isinstance(norm, nn.LayerNorm):
        raise GraphError(f"A normalization is a {type(norm).__name__}; LayerNorm is expected.")
    plain = nn.LayerNorm(norm.normalized_shape, eps=norm.eps)
    plain.weight, plain.bias = norm.weight, norm.bias
    return plain


def linear_of(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    """A linear map of given parameters: float (out, in) and (out,)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight.detach())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach())
    return linear


def _of_transformers(layer: Any) -> PreNormLayer:
    """transformers' `CLIPEncoderLayer`."""
    attention, mlp = layer.self_attn, layer.mlp
    return PreNormLayer(
        norm1=plain_norm(layer.layer_norm1),
        query=attention.q_proj,
        key=attention.k_proj,
        value=attention.v_proj,
        output=attention.out_proj,
        heads=attention.num_heads,
        norm2=plain_norm(layer.layer_norm2),
        fc1=mlp.fc1,
        activation=mlp.activation_fn,
        fc2=mlp.fc2,
    )


def _of_open_clip(layer: Any) -> PreNormLayer:
    """open_clip's `ResidualAttentionBlock`, around torch's `MultiheadAttention`."""
    attention, mlp = layer.attn, layer.mlp
    query, key, value = _thirds(attention.in_proj_weight, attention.in_proj_bias)
    return PreNormLayer(
        norm1=plain_norm(layer.ln_1),
        query=query,
        key=key,
        value=value,
        output=_scaled(attention.out_proj, layer.ls_1),
        heads=attention.num_heads,
        norm2=plain_norm(layer.ln_2),
        fc1=mlp.c_fc,
        activation=mlp.gelu,
        fc2=_scaled(mlp.c_proj, layer.ls_2),
    )


def _of_timm(layer: Any) -> PreNormLayer:
    """timm's `Block`, with its plain `Attention` and `Mlp`."""
    attention, mlp = layer.attn, layer.mlp
    extra = {
        "a norm of queries": attention.q_norm,
        "a norm of keys": attention.k_norm,
        "a norm behind the attention": attention.norm,
        "a norm in the feed-forward part": mlp.norm,
    }
    found = [name for name, module in extra.items() if not isinstance(module, nn.Identity)]
    if getattr(attention, "gate", None) is not None:
        found.append("a gate")
    if found:
        raise GraphError(f"A layer has {' and '.join(found)}, for which there are no rewrites.")
    query, key, value = _thirds(attention.qkv.weight, attention.qkv.bias)
    return PreNormLayer(
        norm1=plain_norm(layer.norm1),
        query=query,
        key=key,
        value=value,
        output=_scaled(attention.proj, layer.ls1),
        heads=attention.num_heads,
        norm2=plain_norm(layer.norm2),
        fc1=mlp.fc1,
        activation=mlp.act,
        fc2=_scaled(mlp.fc2, layer.ls2),
    )


_READERS: Mapping[str, Callable[[Any], PreNormLayer]] = MappingProxyType(
    {"CLIPEncoderLayer": _of_transformers, "ResidualAttentionBlock": _of_open_clip, "Block": _of_timm}
)


def _thirds(weight: torch.Tensor, bias: torch.Tensor | None) -> list[nn.Linear]:
    """Query, key and value, which are stored in one matrix in this order."""
    biases = [None] * 3 if bias is None else bias.detach().chunk(3)
    return [linear_of(part, bias) for part, bias in zip(weight.detach().chunk(3), biases, strict=True)]


def _scaled(linear: nn.Linear, scale: Any) -> nn.Linear:
    """A linear map with the layer scale behind it folded in, if there is one."""
    if isinstance(scale, nn.Identity):
        return linear
    factor = scale.gamma.detach()
    return linear_of(linear.weight * factor[:, None], None if linear.bias is None else linear.bias * factor)
