"""Runs of one system: the library, the pace, LoadGen's runs one after the other, and what they are judged by."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.loadgen.accuracy import judge
from bench.loadgen.drive import drive
from bench.loadgen.logs import Detail, read_answers, read_detail, read_latencies
from bench.loadgen.scenarios import ACCURACY, OFFLINE, PERFORMANCE, SCENARIOS, SERVER, Asked, Pace, loadgen_settings
from bench.loadgen.systems import Encode, System
from bench.peers.settled import settled
from bench.record import LoadGenRun

__all__ = ["Bout", "measure_pace"]

# Server begins at this share of what Offline does, and goes on with this share of the last rate, so often.
_FIRST, _NEXT, _TRIES = 0.5, 0.6, 5
# Offline is over too soon where its pace was measured in a slow second; it is repeated with the rate that was found.
_OFFLINE_TRIES = 3
# Before an official run its rate is looked for in runs of this length.
_SEARCH_SECONDS = 20.0
_SINGLES = 32


@dataclass
class Bout:
    """Everything that runs of one system share.

    Attributes:
        name: of the system.
        system: its row of `SYSTEMS`.
        contestant: name of the engine.
        precision: that its answers are judged as.
        encode: the engine's public method.
        library: samples.
        expected: indices → embeddings of those samples by the fp32 graph.
        random_weights: the bundle has any.
        asked: how the runs are to be.
        logs: folder for a folder of each run.
        alive: called whenever something is done.
    """

    name: str
    system: System
    contestant: str
    precision: str
    encode: Encode
    library: Sequence[Any]
    expected: Callable[[Sequence[int]], NDArray[np.float32]]
    random_weights: bool
    asked: Asked
    logs: Path
    alive: Callable[[], None] = lambda: None
    _pace: Pace | None = field(default=None, repr=False)

    def run(self, scenario: str, mode: str, target_qps: float | None = None) -> LoadGenRun:
        """Run LoadGen and read what it wrote.

        Args:
            scenario: a key of `SCENARIOS`.
            mode: "performance" or "accuracy".
            target_qps: mean rate of Server's arrivals in performance mode; None looks for one that the bound allows.

        Raises:
            PeerError: the engine failed, or LoadGen came to no result.
        """
        if self._pace is None:
            self._pace = measure_pace(self.encode, self.library, self.system.warm, self.alive)
        if mode == ACCURACY:
            return self._accuracy(scenario, self._pace)
        if scenario == OFFLINE:
            return self._offline(self._pace)
        if scenario == SERVER and target_qps is None:
            return self._search(self._pace)
        return self._performance(scenario, self.asked, self._pace, target_qps or 1.0)[0]

    def _offline(self, pace: Pace) -> LoadGenRun:
        """Offline, with a query that lasts long enough."""
        for tries in range(1, _OFFLINE_TRIES + 1):
            found, detail = self._performance(OFFLINE, self.asked, pace, 1.0, f"-{tries}")
            self._pace = pace = replace(pace, rate=found.value)
            if detail.values["result_min_duration_met"]:
                break
        found.settings["tries"] = float(tries)
        return found

    def _search(self, pace: Pace) -> LoadGenRun:
        """Server at the first rate that keeps the bound, from half of Offline's downwards."""
        short = self.asked
        if self.asked.official:
            short = replace(self.asked, official=False, seconds=_SEARCH_SECONDS)
        rate = pace.rate * _FIRST
        # No rate helps where a sample alone takes longer than the bound.
        most = _TRIES if pace.one < self.asked.bound_seconds else 1
        for tries in range(1, most + 1):
            found, detail = self._performance(SERVER, short, pace, rate, f"-{tries}")
            if detail.valid or detail.too_few or tries == most:
                break
            rate *= _NEXT
        if self.asked.official:
            found, _ = self._performance(SERVER, self.asked, pace, rate)
        found.settings["tries"] = float(tries)
        return found

    def _performance(
        self, scenario: str, asked: Asked, pace: Pace, target_qps: float, suffix: str = ""
    ) -> tuple[LoadGenRun, Detail]:
        folder = self.logs / f"{self.name}-{scenario}-{PERFORMANCE}{suffix}"
        settings = loadgen_settings(scenario, PERFORMANCE, asked, pace, target_qps)
        most = self._drive(scenario, settings, folder)
        detail, latencies = read_detail(folder), read_latencies(folder)
        row = SCENARIOS[scenario]
        used = {
            **self._settings(most),
            "min_seconds": settings.min_duration_ms / 1000,
            "queries": detail.number("result_query_count"),
            "samples_a_query": detail.number("effective_samples_per_query"),
        }
        if scenario == SERVER:
            used |= {"target_qps": target_qps, "bound_seconds": asked.bound_seconds}
            used["late_queries"] = detail.number("result_overlatency_query_count")
            # Also of runs that are too short for LoadGen to call them valid.
            used["bound_held"] = float(detail.values["result_perf_constraints_met"])
        found = LoadGenRun(
            system=self.name,
            scenario=scenario,
            mode=PERFORMANCE,
            contestant=self.contestant,
            metric=row.metric,
            value=detail.number(row.key) * row.factor,
            unit=row.unit,
            valid=detail.valid,
            reason=detail.reason,
            official=asked.official,
            settings=used,
            latencies=latencies,
        )
        return found, detail

    def _accuracy(self, scenario: str, pace: Pace) -> LoadGenRun:
        folder = self.logs / f"{self.name}-{scenario}-{ACCURACY}"
        settings = loadgen_settings(scenario, ACCURACY, self.asked, pace, pace.rate)
        most = self._drive(scenario, settings, folder)
        indices, found = read_answers(folder)
        expected = self.expected(indices)
        verdict = judge(self.system.unit, found, expected, self.precision, random_weights=self.random_weights)
        missing = set(range(self.asked.judged)) - set(indices)
        gate = f"{verdict.gate}; {len(missing)} samples were not answered" if missing else verdict.gate
        return LoadGenRun(
            system=self.name,
            scenario=scenario,
            mode=ACCURACY,
            contestant=self.contestant,
            metric="mean cosine",
            value=verdict.fidelity.mean_cosine if verdict.fidelity else 0.0,
            unit="",
            official=self.asked.official,
            settings={**self._settings(most), "samples": float(len(set(indices)))},
            latencies=read_latencies(folder),
            fidelity=verdict.fidelity,
            gate=gate,
            passed=False if missing else verdict.passed,
        )

    def _drive(self, scenario: str, settings: Any, folder: Path) -> int:
        """Run LoadGen; the number of samples that a call may have."""
        most = {OFFLINE: self.system.bulk, SERVER: self.system.waiting}.get(
            scenario, settings.multi_stream_samples_per_query
        )
        drive(settings, self.encode, self.library, most, folder, self.alive)
        return int(most)

    def _settings(self, most: int) -> dict[str, float]:
        return {"library": float(len(self.library)), "samples_a_call": float(most), "seed": float(self.asked.seed)}


def measure_pace(encode: Encode, library: Sequence[Any], warm: int, alive: Callable[[], None] = lambda: None) -> Pace:
    """Warm up with calls of the sizes to come, and time them."""
    many = library[:warm]
    settled(lambda: _alive(encode(many), alive))
    rate = len(many) / _median([many], encode)
    for size in range(2, 8):
        encode(library[size : 2 * size])
    alive()
    one = _median([[sample] for sample in many[:_SINGLES]], encode)
    eights: Iterator[int] = iter(range(0, min(len(many), 32), 8))
    eight = _median([library[start : start + 8] for start in eights], encode)
    alive()
    return Pace(one, eight, rate)


def _alive(answer: NDArray[np.float32], alive: Callable[[], None]) -> NDArray[np.float32]:
    alive()
    return answer


def _median(calls: Sequence[Sequence[Any]], encode: Encode) -> float:
    seconds = []
    for samples in calls:
        started = time.perf_counter()
        encode(samples)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
