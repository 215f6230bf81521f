"""A current image and a previous one, as BioViL-T reads them: the same function with less work, and what is exported.

Exact rewrites (compared with the untouched model by tests and, at every export, by the parity gates):

* The current image alone: what stands for the missing previous image is the same everywhere, so that the projector's
  first convolution makes of it a bias. The transformer is not there.
* A previous image changes what that convolution adds: the graph of pairs is the graph of single images with another
  term, and reads its weights. That holds in int8 as well, where the transformer stays in floating point.
* Of the transformer's last block the current image's patches are computed alone, the only ones that are read.
* Both images go through the ResNet as one batch, as upstream has it.

Positions are computed by upstream and are weights here. Both they and the kind of image are added for queries, keys and
values alike.

Source: hi-ml-multimodal, `image/model/encoder.py` (`MultiImageEncoder`) and `image/model/transformer.py`
(`VisionTransformerPooler`); Bannur et al., "Learning to Exploit Temporal Structure for Biomedical Vision–Language
Processing" (CVPR 2023).
"""

from __future__ import annotations

import torch
from torch import nn

from export.errors import GraphError
from export.graphs.activations import fusible
from export.graphs.attention import Attention
from export.graphs.image_rewrites import ImageEmbeddingGraph, folded
from runtime.bundle.parts import Preprocessing

__all__ = ["PreviousImageGraph", "current_image_graph"]


def current_image_graph(model: nn.Module, rule: Preprocessing) -> ImageEmbeddingGraph:
    """uint8 pixels of current images → image_embeds and patch_embeds, where there is no previous image.

    Args:
        model: hi-ml's `MultiImageModel`; it stays as it is.
        rule: of its pictures.

    Raises:
        GraphError: it has another shape.
    """
    alone, rest = _current_projector(model)
    return ImageEmbeddingGraph(model, rule, projector=[model.encoder.backbone_to_vit, alone, *rest])


class PreviousImageGraph(nn.Module):
    """Patches of current and previous images → what the previous ones change at the projector's first convolution."""

    def __init__(self, model: nn.Module) -> None:
        """Rewrite a model; it stays as it is.

        Args:
            model: hi-ml's `MultiImageModel`.

        Raises:
            GraphError: it has another shape.
        """
        super().__init__()
        pooler = model.encoder.vit_pooler
        positions = pooler.pos_embed.detach() + pooler.type_embed.detach()  # (2, patches, width)
        self.positions = nn.Parameter(positions.flatten(0, 1))
        self.blocks = nn.ModuleList(_Block(block) for block in pooler.blocks)
        self.norm = pooler.norm_post
        weight, missing = _change_weight(model)
        self.projection = nn.Linear(weight.shape[1], weight.shape[0])
        self.projection.weight = nn.Parameter(weight.float())
        self.projection.bias = nn.Parameter(-missing.float())

    def forward(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compare images.

        Args:
            patches: float32 (2, batch, width, rows, columns): of the current images, then of the previous ones.

        Returns:
            The current images' patches, and float32 (batch, channels, rows, columns), what is added to the output of
            the projector's first convolution as `current_image_graph` has it.
        """
        rows, columns = patches.shape[-2:]
        count = rows * columns
        states = patches.flatten(3).permute(1, 0, 3, 2).flatten(1, 2)
        *others, last = self.blocks
        for block in others:
            states = block(states, self.positions)
        states = last(states, self.positions, count)
        change = self.projection(self.norm(states))
        return patches[0], change.transpose(1, 2).unflatten(2, (rows, columns))


class _Block(nn.Module):
    """A block of the transformer: attention among the patches of both images, and a feed-forward network."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        attention, mlp = block.attn, block.mlp
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attention = Attention(attention.proj_q, attention.proj_k, attention.proj_v, attention.num_heads)
        self.output, self.fc1, self.activation, self.fc2 = attention.proj, mlp.fc1, fusible(mlp.act), mlp.fc2

    def forward(self, states: torch.Tensor, positions: torch.Tensor, count: int | None = None) -> torch.Tensor:
        """float32 (batch, patches, width) → the same, or its first `count` patches alone."""
        placed = self.norm1(states) + positions
        asking = placed
        if count is not None:
            asking, states = placed[:, :count], states[:, :count]
        states = states + self.output(self.attention(asking, placed))
        return states + self.fc2(self.activation(self.fc1(self.norm2(states))))


def _first_and_rest(model: nn.Module) -> tuple[nn.Conv2d, list[nn.Module]]:
    """The projector's first convolution, with its normalization, and what follows it."""
    width = model.encoder.backbone_to_vit.out_channels
    first, *rest = folded(model.projector.model)
    if not isinstance(first, nn.Conv2d) or first.kernel_size != (1, 1) or first.in_channels != 2 * width:
        raise GraphError(
            f"The projector begins with {first}; a 1×1 convolution of {2 * width} channels, those of the current image "
            "and of its change, is expected."
        )
    return first, rest


def _current_projector(model: nn.Module) -> tuple[nn.Conv2d, list[nn.Module]]:
    """The projector of a current image alone: its first convolution, and the rest."""
    first, rest = _first_and_rest(model)
    weight, missing = _change_weight(model)
    current = nn.Conv2d(weight.shape[1], first.out_channels, 1)
    current.weight = nn.Parameter(first.weight.detach()[:, : weight.shape[1]])
    current.bias = nn.Parameter((first.bias.detach().double() + missing).float())
    return current, rest


def _change_weight(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """What the projector's first convolution does to the change, and what it makes of a missing previous image.

    Returns:
        float64 (channels, width) and (channels,).
    """
    first, _ = _first_and_rest(model)
    width = model.encoder.backbone_to_vit.out_channels
    weight = first.weight.detach().double()[:, width:, 0, 0]
    return weight, weight @ model.encoder.missing_previous_emb.detach().double().flatten()
