"""From raw samples to figures: medians, percentiles, rates, and ratios with intervals.

A machine that is shared has slow minutes. Contestants therefore ran in turn, and a ratio is taken within each round,
where both had the same minute; the figure is the median over the rounds. Its interval is a bootstrap: rounds are drawn
again, the same for both sides, and within each round the passes of either side; 95 % of the medians so found lie in it.
With five rounds it is a rough one, and it knows nothing of what stays the same during a run.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.record import MEASURED, Case, Rate, Row

__all__ = [
    "Interval",
    "change",
    "items_per_second",
    "seconds",
    "seconds_quantile",
    "share_of_rate",
    "speedup",
]

Samples = Sequence[Sequence[float]]
_DRAWS = 2000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its 95 % bootstrap interval, in the figure's unit."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        """In another unit."""
        low, high = sorted((self.low * factor, self.high * factor))
        return Interval(self.value * factor, low, high)

    @property
    def inverse(self) -> Interval:
        """1 / it."""
        return Interval(1 / self.value, 1 / self.high, 1 / self.low)


def seconds(row: Row) -> Interval:
    """Median over the rounds of a pass's median seconds.

    Args:
        row: one that was measured.
    """
    return _interval(row.samples, None, 0)


def seconds_quantile(row: Row, share: float) -> float:
    """Seconds that this share (0.9, 0.99) of all passes do not exceed: an observed pass, the next above."""
    return float(np.quantile([each for passes in row.samples for each in passes], share, method="higher"))


def items_per_second(case: Case, row: Row) -> Interval:
    """Texts, images … per second."""
    return seconds(row).inverse.times(case.items)


def speedup(row: Row, baseline: Row) -> Interval:
    """How many times as fast a row is as another of the same case; 2.0 is half the time.

    Args:
        row: one that was measured.
        baseline: one that was measured in the same rounds.
    """
    return _interval(baseline.samples, row.samples, 1)


def share_of_rate(case: Case, row: Row, precision: str) -> float | None:
    """Useful operations per second, as a share of what the machine's matrix products of a precision reach.

    Returns:
        The median over the rounds; None where the case counts no operations, the row was not measured or the product
        of that precision was not run.
    """
    rate = case.rates.get(precision)
    if rate is None or not rate.samples or not case.operations or row.status != MEASURED:
        return None
    return _share(case.operations, row.samples, rate)


def change(row: Row, baseline: Row | None, old_row: Row, old_baseline: Row | None) -> Interval:
    """How many times as fast a row is in a new report as in an old one.

    Args:
        row: of the new report.
        baseline: of the new report: what both were measured beside, so that machines and minutes cancel; None compares
            seconds.
        old_row: the same contestant in the old report.
        old_baseline: None if `baseline` is.

    Returns:
        1.0 for no change, 0.8 for 20 % less speed; the interval takes the two runs as independent.
    """
    new_draws, new_value = _draws(*_sides(row, baseline), 2)
    old_draws, old_value = _draws(*_sides(old_row, old_baseline), 3)
    return _from_draws(new_value / old_value, new_draws / old_draws)


def _sides(row: Row, baseline: Row | None) -> tuple[Samples, Samples]:
    """What is divided by what, so that more is faster."""
    return ([[1.0]] * len(row.samples) if baseline is None else baseline.samples), row.samples


def _share(operations: float, samples: Samples, rate: Rate) -> float:
    shares = [
        (operations / statistics.median(mine)) / (rate.operations / statistics.median(its))
        for mine, its in zip(samples, rate.samples, strict=False)
    ]
    return float(statistics.median(shares))


def _interval(over: Samples, under: Samples | None, seed: int) -> Interval:
    draws, value = _draws(over, under, seed)
    return _from_draws(value, draws)


def _from_draws(value: float, draws: NDArray[np.float64]) -> Interval:
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    # The median of all need not lie among the middle 95 % of few draws.
    return Interval(value, float(min(low, value)), float(max(high, value)))


def _draws(over: Samples, under: Samples | None, seed: int) -> tuple[NDArray[np.float64], float]:
    """Bootstrap of the median over rounds of median(over) / median(under), and the figure itself."""
    rounds = len(over) if under is None else min(len(over), len(under))
    rng = np.random.default_rng(seed)
    figures = np.array([_medians(over[index], rng) for index in range(rounds)])
    value = np.array([statistics.median(over[index]) for index in range(rounds)])
    if under is not None:
        figures = figures / np.array([_medians(under[index], rng) for index in range(rounds)])
        value = value / np.array([statistics.median(under[index]) for index in range(rounds)])
    chosen = rng.integers(0, rounds, (_DRAWS, rounds))
    drawn = figures[chosen, np.arange(_DRAWS)[:, None]]
    return np.median(drawn, axis=1), float(np.median(value))


def _medians(passes: Sequence[float], rng: np.random.Generator) -> NDArray[np.float64]:
    """Medians of passes drawn again, `_DRAWS` of them."""
    values = np.asarray(passes, dtype=np.float64)
    if len(values) == 1:
        return np.full(_DRAWS, values[0])
    return np.median(values[rng.integers(0, len(values), (_DRAWS, len(values)))], axis=1)
