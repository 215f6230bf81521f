"""Medians, intervals and shares, against SciPy, made-up minutes and simulations with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.record import FAILED, MEASURED, Case, Rate, Row
from bench.record.statistics import (
    Change,
    Interval,
    change,
    common_change,
    discoveries,
    items_per_second,
    seconds,
    seconds_quantile,
    share_of_rate,
    speedup,
)


def row(*samples: list[float]) -> Row:
    return Row("someone", MEASURED, samples=[list(passes) for passes in samples])


def case(rates: dict[str, Rate] | None = None, operations: float = 0.0) -> Case:
    return Case("shapes", "shapes-8x64", "made up", "texts", 8, operations, "reference", rates=rates or {})


def drawn(rng: np.random.Generator, median: float, rounds: int = 5, passes: int = 1, slow: object = 1.0) -> Row:
    noise = np.exp(rng.normal(0, 0.05, (rounds, passes)))
    return Row("someone", MEASURED, samples=(median * np.asarray(slow) * noise).tolist())


def test_seconds_are_the_median_of_the_rounds_medians() -> None:
    found = seconds(row([1.0, 9.0, 1.2], [2.0], [3.0, 5.0]))
    assert found.value == 2.0
    assert found.low < 2.0 < found.high


def test_the_interval_is_scipys_bootstrap() -> None:
    samples = np.random.default_rng(3).gamma(4, 1, 9)
    expected = stats.bootstrap(
        (samples,), np.median, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    found = seconds(row(*([each] for each in samples)))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.02)


def test_passes_within_a_round_are_drawn_again() -> None:
    """One round: the interval is that of a median of passes."""
    samples = np.random.default_rng(4).gamma(4, 1, 31)
    expected = stats.bootstrap(
        (samples,), np.median, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    found = seconds(row(samples.tolist()))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.02)


def test_one_round_of_one_pass_is_its_own_interval() -> None:
    assert seconds(row([2.0])) == Interval(2.0, 2.0, 2.0)
    assert speedup(row([1.0]), row([3.0])) == Interval(3.0, 3.0, 3.0)


def test_the_same_samples_give_the_same_interval() -> None:
    one = drawn(np.random.default_rng(1), 1.0, passes=3)
    assert seconds(one) == seconds(one)


def test_slow_minutes_cancel_in_a_ratio() -> None:
    slow = np.array([1.0, 3.0, 1.0, 7.0, 2.0])[:, None]
    mine, its = row(*(2.0 * slow).tolist()), row(*(5.0 * slow).tolist())
    assert speedup(mine, its) == Interval(2.5, 2.5, 2.5)
    assert seconds(mine).high > 2 * seconds(mine).low


def test_the_speedup_is_within_rounds_not_of_medians() -> None:
    # Of medians 20 / 2 = 10; of rounds 100, 1 and 4.
    assert speedup(row([1.0], [20.0], [2.0]), row([100.0], [20.0], [8.0])).value == 4.0


def test_a_round_that_only_one_side_ran_is_left_out() -> None:
    assert speedup(row([1.0], [1.0]), row([2.0], [2.0], [50.0])) == Interval(2.0, 2.0, 2.0)


def test_the_interval_of_a_ratio_covers_the_truth() -> None:
    """The order statistics of five rounds reach 93.75 %; three reach 75 %, which is why five are the default."""
    rng = np.random.default_rng(0)
    covered = {5: 0, 3: 0}
    for rounds in covered:
        for _ in range(200):
            slow = rng.uniform(1, 1.5, (rounds, 1))
            found = speedup(drawn(rng, 1.0, rounds, 3, slow), drawn(rng, 2.0, rounds, 3, slow))
            covered[rounds] += found.low <= 2.0 <= found.high
    assert covered[5] >= 180
    assert covered[3] >= 140


def test_quantiles_are_passes_that_happened() -> None:
    found = row([float(each) for each in range(1, 51)], [float(each) for each in range(51, 101)])
    assert seconds_quantile(found, 0.9) == 91.0
    assert seconds_quantile(found, 0.99) == 100.0
    assert seconds_quantile(row([4.0]), 0.99) == 4.0


def test_items_per_second() -> None:
    found = items_per_second(case(), row([2.0], [4.0], [4.0]))
    assert found.value == 2.0
    assert found.low == 2.0
    assert found.high == 4.0


def test_an_interval_turned_around_keeps_its_order() -> None:
    assert Interval(2.0, 1.0, 4.0).inverse == Interval(0.5, 0.25, 1.0)
    assert Interval(2.0, 1.0, 4.0).times(3.0) == Interval(6.0, 3.0, 12.0)
    assert Interval(2.0, 1.0, 4.0).times(-1.0) == Interval(-2.0, -4.0, -1.0)


def test_share_of_rate() -> None:
    # 100 operations a second of 200 that are reached, in a fast and in a slow minute.
    rates = {"fp32": Rate(400.0, [[2.0], [6.0]])}
    mine = row([4.0], [12.0])
    assert share_of_rate(case(rates, 400.0), mine, "fp32") == pytest.approx(0.5)
    assert share_of_rate(case(rates, 400.0), mine, "int8") is None
    assert share_of_rate(case(rates), mine, "fp32") is None
    assert share_of_rate(case({"fp32": Rate(400.0)}, 400.0), mine, "fp32") is None
    assert share_of_rate(case(rates, 400.0), Row("someone", FAILED), "fp32") is None


def drawn_change(rng: np.random.Generator, slower: float, rounds: int) -> Change:
    """Of a contestant that takes so many times as long as before, beside one that takes as long as it did."""
    new, base, old, old_base = (drawn(rng, median, rounds) for median in (slower, 3.0, 1.0, 3.0))
    return change(new, old, [(base.samples, old_base.samples)])


def test_one_of_several_beside_it_may_change() -> None:
    same, faster = [[2.0], [4.0], [2.0]], [[1.0], [2.0], [1.0]]
    mine = row([3.0], [6.0], [3.0])
    assert change(mine, mine, [(same, same), (faster, same), (same, same)]).ratio.value == pytest.approx(1.0)
    assert change(mine, mine, [(faster, same)]).ratio.value == pytest.approx(0.5)
    # One that ended a round earlier tells of the rounds it has.
    assert change(mine, mine, [(same, same), (same[:2], same)]).ratio.value == pytest.approx(1.0)


def test_change_is_welchs_test_of_logarithms() -> None:
    rng = np.random.default_rng(5)
    new, base, old, old_base = drawn(rng, 1.2), drawn(rng, 3.0), drawn(rng, 1.0), drawn(rng, 3.0)
    logs = [np.log(np.divide(its.samples, mine.samples)).ravel() for mine, its in ((new, base), (old, old_base))]
    expected = stats.ttest_ind(*logs, equal_var=False)
    found = change(new, old, [(base.samples, old_base.samples)])
    assert found.chance == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval(0.95)
    assert (found.ratio.low, found.ratio.high) == pytest.approx((np.exp(ends.low), np.exp(ends.high)))
    assert found.ratio.value == pytest.approx(stats.gmean(np.exp(logs[0])) / stats.gmean(np.exp(logs[1])))
    assert found.new / found.old == pytest.approx(found.ratio.value)


def test_the_interval_of_a_change_covers_the_truth() -> None:
    rng = np.random.default_rng(6)
    covered = {3: 0, 5: 0}
    for rounds in covered:
        for _ in range(200):
            found = drawn_change(rng, 1.25, rounds)
            covered[rounds] += found.ratio.low <= 0.8 <= found.ratio.high
    assert min(covered.values()) >= 182


def test_change_of_seconds_and_of_what_nothing_is_known() -> None:
    found = change(row([2.0], [2.0]), row([1.0], [1.0]))
    assert (found.old, found.new, found.ratio.value, found.chance) == (1.0, 0.5, 0.5, 0.0)
    assert change(row([2.0], [2.0]), row([2.0], [2.0])).chance == 1.0
    single = change(row([2.0]), row([1.0], [1.0]))
    assert (single.ratio.value, single.ratio.low, single.ratio.high, single.chance) == (0.5, 0.0, np.inf, 1.0)


def test_what_rows_have_in_common() -> None:
    rng = np.random.default_rng(7)
    changes = [drawn_change(rng, 1.2, 3) for _ in range(12)]
    found = common_change(changes)
    expected = stats.ttest_1samp(np.log([each.ratio.value for each in changes]), 0.0)
    assert found.chance == pytest.approx(expected.pvalue)
    assert found.ratio.low < 1 / 1.2 < found.ratio.high < 1
    assert found.new / found.old == pytest.approx(found.ratio.value)
    # It is surer than any of them.
    assert found.chance < min(each.chance for each in changes)


def test_discoveries_are_benjamini_hochbergs() -> None:
    """Their own example (1995, section 3.2): at 5 % four of fifteen are believed; Bonferroni would believe three."""
    chances = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip  # noqa: E501
    assert discoveries(chances) == [True] * 4 + [False] * 11
    assert discoveries(chances[::-1]) == [False] * 11 + [True] * 4
    assert discoveries([]) == []
