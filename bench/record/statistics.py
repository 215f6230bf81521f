"""From raw samples to figures: medians, percentiles, rates, and ratios with intervals.

A machine that is shared has slow minutes. Contestants therefore ran in turn, and a ratio is taken within each round,
where both had the same minute; the figure is the median over the rounds. Its interval is a bootstrap: rounds are drawn
again, the same for both sides, and within each round the passes of either side; 95 % of the medians so found lie in it.
With few rounds it is rough: five hold the truth in 94 of 100 runs, three in 75. It knows
nothing of what stays the same during a run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.record.report import MEASURED, Case, Rate, Row

__all__ = [
    "Change",
    "Interval",
    "Samples",
    "change",
    "common_change",
    "discoveries",
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


@dataclass(frozen=True)
class Change:
    """What became of a figure between two runs.

    Attributes:
        old: speed in the old run in passes a second: the rounds' geometric mean.
        new: speed in the new run, as it would be were the machine as fast as in the old one.
        ratio: new / old, with its 95 % interval; 0 … inf where a run has a single round, which says nothing of noise.
        chance: probability that noise alone makes so large a change; 1 where nothing is known of the noise.
    """

    old: float
    new: float
    ratio: Interval
    chance: float


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


def share_of_rate(case: Case, row: Row, name: str) -> float | None:
    """Useful operations per second, as a share of what a matrix product reaches.

    Args:
        case: where it ran.
        row: of the case.
        name: of the product, see `bench.record.report.Contestant.rate`.

    Returns:
        The median over the rounds; None where the case counts no operations, the row was not measured or the product
        was not run.
    """
    rate = case.rates.get(name)
    if rate is None or not rate.samples or not case.operations or row.status != MEASURED:
        return None
    return _share(case.operations, row.samples, rate)


def change(row: Row, old_row: Row, beside: Sequence[tuple[Samples, Samples]] = ()) -> Change:
    """How many times as fast a row is in a new report as in an old one.

    Each round gives one figure, and the rounds' logarithms of either run are compared by Welch's test. Unlike the
    bootstrap it keeps its promise with three to five rounds, and gives probabilities small enough for many rows.

    Args:
        row: of the new report.
        old_row: the same contestant in the old report.
        beside: samples, new and old, of what else ran in the same rounds. How fast the machine was in a round is told
            by how much faster each of them was than in the mean of the old run: the median of all of them, so that one
            that changed itself does not matter. Machines and minutes so cancel; with none, seconds are compared.

    Returns:
        1.0 for no change, 0.8 for 20 % less speed. The two runs are taken as independent; what differs between runs and
        stays the same within each is not in the interval.
    """
    new, old = _round_logs(row.samples), _round_logs(old_row.samples)
    if beside:
        new_pace, old_pace = _paces(beside)
        new, old = (mine[: len(pace)] - pace[: len(mine)] for mine, pace in ((new, new_pace), (old, old_pace)))
    difference = float(new.mean() - old.mean())
    low, high, chance = _welch(new, old, difference)
    interval = Interval(*(float(np.exp(each)) for each in (difference, low, high)))
    return Change(float(np.exp(old.mean())), float(np.exp(new.mean())), interval, chance)


def common_change(changes: Sequence[Change]) -> Change:
    """What several rows have in common: their geometric mean, judged by how the rows differ (Student's test).

    Args:
        changes: of rows whose noise is independent, at least two.
    """
    logs = np.log([each.ratio.value for each in changes])
    mean = float(logs.mean())
    if np.ptp(logs) == 0:  # a report beside itself
        low, high, chance = mean, mean, float(mean == 0)
    else:
        result = stats.ttest_1samp(logs, 0.0)
        (low, high), chance = result.confidence_interval(_CONFIDENCE), float(result.pvalue)
    interval = Interval(*(float(np.exp(each)) for each in (mean, low, high)))
    old, new = (float(np.exp(np.mean(np.log([getattr(each, side) for each in changes])))) for side in ("old", "new"))
    return Change(old, new, interval, chance)


def discoveries(chances: Sequence[float], share: float = 0.05) -> list[bool]:
    """Which of many findings to believe, so that of those believed about this share are false (Benjamini-Hochberg).

    Where there is nothing to find, anything at all is believed in at most this share of repeats.

    Args:
        chances: probability of each by noise alone.
        share: of false ones.
    """
    if not chances:
        return []
    return [bool(each <= share) for each in stats.false_discovery_control(chances)]


def _round_logs(samples: Samples) -> NDArray[np.float64]:
    """Logarithm of the speed of each round in passes a second."""
    return -np.log([statistics.median(passes) for passes in samples])


def _paces(beside: Sequence[tuple[Samples, Samples]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithm of the machine's speed in each round of the new and of the old run."""
    found = []
    for side in (0, 1):
        rounds = min(len(samples[side]) for samples in beside)
        found.append(
            np.median(
                [_round_logs(samples[side][:rounds]) - _round_logs(samples[1]).mean() for samples in beside],
                axis=0,
            )
        )
    return found[0], found[1]


def _welch(new: NDArray[np.float64], old: NDArray[np.float64], difference: float) -> tuple[float, float, float]:
    """Ends of the interval of the difference of means, and the probability of so large a one by noise."""
    if min(len(new), len(old)) < 2:
        return -math.inf, math.inf, 1.0
    if np.ptp(new) == np.ptp(old) == 0:
        return difference, difference, float(difference == 0)
    result = stats.ttest_ind(new, old, equal_var=False)
    ends = result.confidence_interval(_CONFIDENCE)
    return float(ends.low), float(ends.high), float(result.pvalue)


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
