"""What a scenario found: figures beside their goals, and how many answers were compared."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FAILED", "MEASURED", "SKIPPED", "Figure", "Result", "median", "quantile"]

MEASURED, SKIPPED, FAILED = "measured", "skipped", "failed"


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        what: in a few words.
        value: NaN where it could not be measured.
        unit: "", "ms", "1/s", "MB" …
        goal: None where there is none.
        at_most: whether the goal is an upper bound; otherwise a lower one.
        note: how it came about.
    """

    what: str
    value: float
    unit: str = ""
    goal: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def shown(self) -> str:
        """The value with its unit."""
        return _shown(self.value, self.unit)

    def shown_goal(self) -> str:
        """The goal with its sign and unit, or ""."""
        return "" if self.goal is None else f"{'≤' if self.at_most else '≥'} {_shown(self.goal, self.unit)}"


@dataclass(frozen=True)
class Result:
    """A scenario's.

    Attributes:
        scenario: its name.
        figures: what it measured.
        settings: what it was measured with.
        samples: raw ones, seconds.
        status: MEASURED, SKIPPED or FAILED.
        reason: why it was not measured.
        seconds: that it took.
    """

    scenario: str
    figures: Sequence[Figure] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, Any] = field(default_factory=dict)
    status: str = MEASURED
    reason: str = ""
    seconds: float = 0.0

    @property
    def missed(self) -> bool:
        """Whether a goal was missed, or the scenario failed."""
        return self.status == FAILED or any(figure.met is False for figure in self.figures)


def median(values: Sequence[float]) -> float:
    """The median; NaN of nothing."""
    return statistics.median(values) if values else math.nan


def quantile(values: Sequence[float], share: float) -> float:
    """A value that this share of all does not exceed: an observed one, the next above; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * (len(ordered) - 1)))] if ordered else math.nan


def _shown(value: float, unit: str) -> str:
    if math.isnan(value):
        return "—"
    digits = f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}".strip()
