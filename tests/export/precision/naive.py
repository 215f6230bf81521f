"""Negative control: static int8 as `onnxruntime.quantization.quantize_static` has it, in place of the recipes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from export.precision import int8, rounding
from export.precision.inputs import SmoothedInputs, fixed_smoothing
from export.precision.statistics import TensorStatistics

__all__ = ["quantize_naively"]


def quantize_naively(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on one range from the smallest to the largest value, weights rounded to nearest, and nothing else."""
    monkeypatch.setattr(
        int8, "round_weights", lambda weight, scales, moments: rounding.round_to_nearest(weight, scales)
    )
    monkeypatch.setattr(int8, "smoothed_inputs", _min_max)


def _min_max(weight: NDArray[np.float32], statistics: TensorStatistics, copies: int) -> SmoothedInputs:
    plain = np.ones(len(weight), np.float32)
    return replace(
        fixed_smoothing(weight, statistics, 0.0),
        multiplier=plain,
        factors=plain,
        step=float(np.abs([statistics.highest, statistics.lowest]).max()) / 127,
        means=statistics.means,
        covariance=statistics.covariance,
    )
