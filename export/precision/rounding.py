"""Round weights to int8 so that the layer's output changes least, not the weights themselves.

GPTQ (Frantar et al., ICLR 2023): the columns are rounded one after another, and the error of each is spread over those
not yet rounded, by the second moments of the layer's inputs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["int8_scales", "round_rows", "round_to_nearest", "round_weights"]

_LARGEST = 127
_BLOCK = 128
# Share of the mean diagonal that is added to it: inputs that the calibration never excites must not divide by zero.
_DAMPING = 0.01


def int8_scales(weight: NDArray[np.float32], block: int | None = None) -> NDArray[np.float32]:
    """Symmetric scales of each output channel.

    Args:
        weight: float32 (inputs, outputs).
        block: inputs that share a scale; None gives one scale to all inputs.

    Returns:
        float32 (inputs / block, outputs), positive.
    """
    largest = np.abs(weight.reshape(-1, block or len(weight), weight.shape[1])).max(axis=1)
    return np.where(largest > 0, largest / _LARGEST, 1.0).astype(np.float32)


def round_to_nearest(weight: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    """Each weight on its own: int8 (inputs, outputs) with weight ≈ result · scales; scales as `int8_scales` gives."""
    spread = np.repeat(scales, len(weight) // len(scales), axis=0)
    rounded: NDArray[np.int8] = np.clip(np.rint(weight / spread), -_LARGEST, _LARGEST).astype(np.int8)
    return rounded


def round_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """An embedding table with a scale per row: float32 (rows, size) → int8 (rows, size), float32 (rows, 1)."""
    scales = int8_scales(table.T)
    return round_to_nearest(table.T, scales).T, scales.T


def round_weights(
    weight: NDArray[np.float32], scales: NDArray[np.float32], moments: NDArray[np.float64]
) -> NDArray[np.int8]:
    """Round with compensation.

    Args:
        weight: float32 (inputs, outputs).
        scales: float32 (blocks, outputs), as `int8_scales` gives.
        moments: float64 (inputs, inputs), the sum of xᵀx over the layer's inputs x.

    Returns:
        int8 (inputs, outputs) with weight ≈ result · scales.
    """
    hessian = torch.from_numpy(moments).double().clone()
    diagonal = hessian.diagonal()
    mean = float(diagonal.mean())
    if not mean > 0:  # an input that is always zero
        return round_to_nearest(weight, scales)
    diagonal += _DAMPING * mean
    # The most excited inputs first, while there is most left to compensate with.
    order = torch.argsort(diagonal, descending=True)
    # The upper Cholesky factor of the inverse, from that of the matrix with rows and columns reversed: a third of the
    # work of inverting first.
    lower = torch.linalg.cholesky(hessian[order][:, order].flip(0, 1))
    identity = torch.eye(len(lower), dtype=lower.dtype)
    factor = torch.linalg.solve_triangular(lower, identity, upper=False).flip(0, 1).float()
    rest = torch.from_numpy(weight)[order].clone()
    scale = torch.from_numpy(scales).repeat_interleave(len(weight) // len(scales), dim=0)[order]
    rounded = torch.empty_like(rest)
    for start in range(0, len(rest), _BLOCK):
        end = min(start + _BLOCK, len(rest))
        errors = torch.empty(end - start, rest.shape[1])
        for row in range(start, end):
            rounded[row] = torch.clamp(torch.round(rest[row] / scale[row]), -_LARGEST, _LARGEST)
            error = (rest[row] - rounded[row] * scale[row]) / factor[row, row]
            rest[row + 1 : end] -= factor[row, row + 1 : end, None] * error
            errors[row - start] = error
        rest[end:] -= factor[start:end, end:].T @ errors
    result = torch.empty_like(rounded)
    result[order] = rounded
    as_int8: NDArray[np.int8] = result.to(torch.int8).numpy()
    return as_int8
