"""How the inputs of a matrix product become 8-bit integers: centred, scaled channel by channel, some in several copies.

All channels of a static quantizer share one step, so that the widest of them sets the error of all. Three things make
them alike, none of which changes the product, and all of which cost one multiplication and addition per input:

* each channel is moved to the middle of its range (Outlier Suppression+, Wei et al., EMNLP 2023), and what that adds to
  the product is a constant of its bias;
* each is divided by a factor, which its weights are multiplied by (SmoothQuant, Xiao et al., ICML 2023). The share
  `alpha` of its range that moves into the weights is chosen product by product, by the error expected of both;
* a channel with outliers is computed in several copies (outlier channel splitting, Zhao et al., ICML 2019), each of
  them off by another fraction of a step: they round differently, so that n copies have an n-th of the error.

Measured (MiniLM, Open-I reports, error of each product's output relative to its variance, alpha 0.75 alone → all):
query, key and value 1.2e-4 → 0.7e-4, attention output 4.6e-4 → 2.3e-4, first feed-forward 3.3e-4 → 1.5e-4, second,
where 8 of 1,536 channels cause up to 89 % of the error, 4.4e-4 → 1.3e-4 with 32 copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.precision.statistics import TensorStatistics

__all__ = ["SmoothedInputs", "error_left", "fixed_smoothing", "smoothed_inputs"]

_LEAST_RANGE = 1e-5
# From the middle of the widest channel to its ends.
_STEPS = 127
# Standard deviations that every channel reaches at least on either side of its middle: few texts show less than there
# is (1 - centred cosine of MiniLM 8.9e-4 instead of 8.4e-4; masked scores of a model calibrated with 48 texts, on
# others: cosine 0.982 instead of 0.978).
_LEAST_REACH = 3.5
_WEIGHT_STEPS = 127
_ALPHAS = tuple(round(0.5 + 0.05 * index, 2) for index in range(11))
# What rounding with compensation leaves of the error of rounding each weight on its own, about.
_COMPENSATED = 0.5


@dataclass(frozen=True)
class SmoothedInputs:
    """What a product's inputs go through: input[index] · multiplier + shift.

    Attributes:
        alpha: share of a channel's range that moves into its weights.
        index: int64 (columns,), the channel of each column of the product; some channels have several.
        multiplier: float32 (columns,).
        shift: float32 (columns,); zeros where nothing is moved.
        factors: float32 (columns,), of the weights of each column.
        step: of the quantizer; the middle of its range is 0.
        means: float64 (columns,), mean after that.
        covariance: float64 (columns, columns), after that.
    """

    alpha: float
    index: NDArray[np.int64]
    multiplier: NDArray[np.float32]
    shift: NDArray[np.float32]
    factors: NDArray[np.float32]
    step: float
    means: NDArray[np.float64]
    covariance: NDArray[np.float64]


def smoothed_inputs(weight: NDArray[np.float32], statistics: TensorStatistics, copies: int = 0) -> SmoothedInputs:
    """Choose how inputs become like each other for a quantizer with one fixed range.

    Args:
        weight: float32 (channels, outputs).
        statistics: of the inputs, on calibration data.
        copies: columns that are added for channels with outliers.
    """
    centre = (statistics.highest + statistics.lowest) / 2
    half = _half_ranges(statistics)
    norms = (weight**2).sum(axis=1)
    counts = _copies(half**2 * norms, copies)
    half = (half / counts).astype(np.float32)
    squares = (statistics.variances / counts).astype(np.float32)

    def error(alpha: float) -> float:
        """Expected of one row of the output: rounding of the inputs, and of the weights."""
        factors = _factors(weight, half, alpha)
        step = float((half / factors).max()) / _STEPS
        steps = np.abs(factors[:, None] * weight).max(axis=0) / _WEIGHT_STEPS
        inputs = step**2 * float((factors**2 * norms).sum())
        return inputs + _COMPENSATED * float((steps**2).sum()) * float((squares / factors**2).sum())

    alpha = min(_ALPHAS, key=error)
    factors = _factors(weight, half, alpha)
    step = float((half / factors).max()) / _STEPS
    index = np.repeat(np.arange(len(weight)), counts)
    multiplier = 1 / (factors * counts)[index]
    # The mean lies on the grid: channels that mostly stay within a step of it would be rounded to one side.
    shift = -centre[index] * multiplier
    means = statistics.means[index] * multiplier + shift
    shift -= means - np.rint(means / step) * step
    shift += np.concatenate([np.arange(count) - (count - 1) / 2 for count in counts]) / counts[index] * step
    return _inputs(statistics, alpha, index, multiplier, shift, factors[index], step)


def error_left(weight: NDArray[np.float32], statistics: TensorStatistics, copies: int) -> float:
    """Share of the error of rounding the inputs that copies of some channels leave, all ranges made alike; 0 to 1.

    Args:
        weight: float32 (channels, outputs).
        statistics: of the inputs.
        copies: columns that are added.
    """
    errors = _half_ranges(statistics) ** 2 * (weight**2).sum(axis=1)
    return float((errors / _copies(errors, copies) ** 2).sum() / max(errors.sum(), 1e-30))


def fixed_smoothing(weight: NDArray[np.float32], statistics: TensorStatistics, alpha: float) -> SmoothedInputs:
    """SmoothQuant alone, for inputs that are quantized at run time: the ranges of each batch are its own."""
    largest = np.maximum(np.maximum(np.abs(statistics.lowest), np.abs(statistics.highest)), _LEAST_RANGE)
    factors = _factors(weight, largest, alpha)
    return _inputs(statistics, alpha, np.arange(len(weight)), 1 / factors, np.zeros_like(factors), factors, 0.0)


def _half_ranges(statistics: TensorStatistics) -> NDArray[np.float32]:
    """float32 (channels,), positive."""
    reach = _LEAST_REACH * np.sqrt(statistics.variances)
    half = np.maximum((statistics.highest - statistics.lowest) / 2, reach)
    return np.maximum(half, _LEAST_RANGE).astype(np.float32)


def _factors(weight: NDArray[np.float32], ranges: NDArray[Any], alpha: float) -> NDArray[np.float32]:
    reach = np.maximum(np.abs(weight).max(axis=1), _LEAST_RANGE)
    factors = ranges**alpha / reach ** (1 - alpha)
    smoothed: NDArray[np.float32] = (factors / factors.mean()).astype(np.float32)
    return smoothed


def _copies(errors: NDArray[np.float32], added: int) -> NDArray[np.int64]:
    """How often each channel is computed: one more, time and again, for that whose error this lowers most."""
    counts = np.ones(len(errors), dtype=np.int64)
    for _ in range(added):
        counts[np.argmax(errors * (1 / counts**2 - 1 / (counts + 1) ** 2))] += 1
    return counts


def _inputs(
    statistics: TensorStatistics,
    alpha: float,
    index: NDArray[np.int64],
    multiplier: NDArray[Any],
    shift: NDArray[Any],
    factors: NDArray[Any],
    step: float,
) -> SmoothedInputs:
    covariance = statistics.covariance[np.ix_(index, index)] * multiplier[:, None] * multiplier
    return SmoothedInputs(
        alpha=alpha,
        index=index,
        multiplier=multiplier.astype(np.float32),
        shift=shift.astype(np.float32),
        factors=factors.astype(np.float32),
        step=step,
        means=statistics.means[index] * multiplier + shift,
        covariance=covariance,
    )
