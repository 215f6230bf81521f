"""Models rounded on purpose, coarsely: negative controls that show that the figures can fail."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch

__all__ = ["coarse_activations", "coarse_weights"]

Model = TypeVar("Model", bound=torch.nn.Module)


def coarse_weights(model: Model, bits: int = 4, *, each_row: bool = False) -> Model:
    """A copy whose matrices have so few bits, with one scale for a tensor or for each of its rows."""
    changed = copy.deepcopy(model)
    for weight in _matrices(changed):
        largest = weight.abs().flatten(1).amax(1) if each_row else weight.abs().max().expand(len(weight))
        scale = (largest / _steps(bits)).clamp(min=1e-12).view(-1, *[1] * (weight.ndim - 1))
        weight.copy_((weight / scale).round() * scale)
    return changed


def coarse_activations(model: Model, bits: int = 8) -> Model:
    """A copy whose linear layers take inputs of so few bits, with one scale for a tensor."""
    changed = copy.deepcopy(model)

    def rounded(_: torch.nn.Module, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        scale = arguments[0].abs().max() / _steps(bits)
        return ((arguments[0] / scale).round() * scale,)

    for module in changed.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(rounded)
    return changed


def _matrices(model: torch.nn.Module) -> Iterable[torch.Tensor]:
    return (weight.detach() for weight in model.parameters() if weight.ndim > 1)


def _steps(bits: int) -> int:
    return 2 ** (bits - 1) - 1
