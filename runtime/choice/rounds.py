"""Rounds of measurements that give the budget to the close ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from runtime.choice.precision import Choice
from runtime.choice.tuned import Row
from runtime.choice.workload import Setting
from runtime.errors import ProviderError

__all__ = ["Bench", "PassedOver", "Search", "recorded_milliseconds"]

# After each round those go on that take at most so many times as long as the best: the budget is for the close ones.
# The first round has one setting of each engine and precision, the second the other streams and batches of the fast.
_WITHIN = (1.5, 1.5, 1.25, 1.15, 1.1, 1.1, 1.1)


@dataclass(frozen=True)
class PassedOver:
    """What was not measured, and why."""

    part: str
    provider: str
    precision: str
    reason: str


class Bench(Protocol):
    """What settings are measured with; see `Workbench`."""

    def items(self, part: str) -> int:
        """Texts or images of one measurement."""

    def seconds(self, setting: Setting) -> float:
        """Time of the bulk work of a part."""

    def milliseconds(self, setting: Setting) -> float:
        """Time of a single item."""

    def keep(self, settings: Iterable[Setting]) -> None:
        """Close all others."""


def recorded_milliseconds(choice: Choice) -> float:
    """Milliseconds of a batch, as far as they say what is fast."""
    time_of_batch = choice.fidelity.milliseconds if choice.fidelity else float("inf")
    return time_of_batch if time_of_batch > 0 else float("inf")


class Search:
    """Rounds of measurements, until the budget ends or the best are known."""

    def __init__(
        self, bench: Bench, deadline: float, goal: str, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.left_out = 0
        self.failed: list[PassedOver] = []
        self._bench = bench
        self._deadline = deadline
        self._goal = goal
        self._clock = clock
        self._seconds: dict[Setting, list[float]] = {}
        self._alone: dict[tuple[str, str, str, int], list[float]] = {}

    def run(
        self,
        bases: Sequence[Setting],
        variants: Callable[[Setting], Iterable[Setting]],
        choices: Mapping[tuple[str, str, str], Choice],
    ) -> None:
        """Measure."""
        going = list(bases)
        for number, within in enumerate(_WITHIN):
            for setting in going:
                if self._clock() + self._expected(setting, choices) < self._deadline:
                    self._measure(setting)
                elif setting not in self._seconds:
                    self.left_out += 1
                if number == 0:
                    self._bench.keep(self._close(self._seconds, within))
            going = self._close([setting for setting in going if setting in self._seconds], within)
            self._bench.keep(going)
            if number == 0:
                # All of an engine and precision with the same streams share a graph.
                going = [each for setting in going for each in variants(setting)]
                continue
            if number == 1:
                going = self._close(self._seconds, within)
                self._bench.keep(going)
            if len(going) <= len({setting.part for setting in going}):
                break

    def rows(self) -> tuple[Row, ...]:
        """What was measured, part by part, the best first."""
        found = [
            Row(
                **vars(setting),
                rate=self._bench.items(setting.part) / median(seconds),
                milliseconds=median(self._alone[setting.alone]),
                rounds=len(seconds),
            )
            for setting, seconds in self._seconds.items()
        ]
        parts = list(dict.fromkeys(row.part for row in found))
        return tuple(sorted(found, key=lambda row: (parts.index(row.part), -row.score(self._goal), -row.rate)))

    def _measure(self, setting: Setting) -> None:
        try:
            if setting.alone not in self._alone or self._goal == "latency":
                self._alone.setdefault(setting.alone, []).append(self._bench.milliseconds(setting))
            self._seconds.setdefault(setting, []).append(self._bench.seconds(setting))
        except ProviderError as error:
            self._seconds.pop(setting, None)
            self.failed.append(PassedOver(setting.part, setting.provider, setting.precision, str(error)))

    def _expected(self, setting: Setting, choices: Mapping[tuple[str, str, str], Choice]) -> float:
        """Seconds that it will take, judged by others of its part; 0 where nothing is known."""
        own = self._seconds.get(setting)
        if own:
            return own[-1]
        known = [other for other in self._seconds if other.part == setting.part]
        if not known:
            return 0.0
        alike = [self._seconds[other][-1] for other in known if other.alone == setting.alone]
        if alike:
            return 2 * min(alike)  # the first run, in which engines prepare shapes, does not count
        best = min(known, key=lambda other: self._seconds[other][-1])
        slower = recorded_milliseconds(choices[setting.alone[:3]]) / recorded_milliseconds(choices[best.alone[:3]])
        return 2 * self._seconds[best][-1] * (slower if 1 < slower < float("inf") else 1.0)

    def _close(self, settings: Iterable[Setting], within: float) -> list[Setting]:
        """Those near the best of their part."""
        listed = list(settings)
        values = {setting: self._value(setting) for setting in listed}
        best: dict[str, float] = {}
        for setting, value in values.items():
            best[setting.part] = min(value, best.get(setting.part, value))
        return [setting for setting in listed if values[setting] <= within * best[setting.part]]

    def _value(self, setting: Setting) -> float:
        return median(self._seconds[setting] if self._goal == "throughput" else self._alone[setting.alone])
