"""Print what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bench.peers import RATE_OPERATIONS
from bench.turns import Times
from bench.workloads import RATE, Workload

__all__ = ["print_times"]


def print_times(workload: Workload, times: Sequence[Times], shares: Mapping[str, float], threads: int) -> None:
    """A line per contestant: median with least and largest, rate, ratio to the first, share of the int8 rate."""
    rounds = len(times[0].seconds)
    print(f"{workload.title}; {threads} threads, medians of {rounds} passes in turn")
    width = max(len(each.name) for each in times)
    for each in times:
        low, high = min(each.seconds), max(each.seconds)
        if each.name == RATE:
            rate = RATE_OPERATIONS / each.median / 1e9
            print(f"  {each.name:{width}} {each.median:9.4f} s ({low:.4f}–{high:.4f})   {rate:,.0f} GFLOP/s")
            continue
        line = f"  {each.name:{width}} {each.median:9.4f} s ({low:.4f}–{high:.4f})"
        line += f"   {workload.items / each.median:8.1f} {workload.unit}/s"
        if each is not times[0]:
            line += f"   {_ratio(times[0], each):5.2f} × the first"
        if each.name in shares:
            line += f"   {shares[each.name]:.1%} of the int8 rate"
        print(line)


def _ratio(first: Times, other: Times) -> float:
    """Median over the rounds, so that a slow minute hits both sides."""
    count = min(len(first.seconds), len(other.seconds))
    return float(np.median(np.divide(first.seconds[:count], other.seconds[:count])))
