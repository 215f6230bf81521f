"""A case with what its contestants are given, and the bounds on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.measuring.entry import Entry
from bench.record import Case

__all__ = ["Limits", "Plan"]


@dataclass(frozen=True)
class Limits:
    """Bounds on a case.

    Attributes:
        rounds: counted, at most.
        least_rounds: counted, at least, however long they take.
        open_seconds: within which a contestant must have opened its model, and within which it must have computed a
            case for the first time, which may compile.
        making_seconds: beside these, for a contestant that has something made first (`Entry.makes`); where None, only
            those take part for whom it was made before.
        pass_factor: how many times as long as the first one a pass may take before it counts as hung.
        part_seconds: for the rounds of a case in parts, at most, where nothing else bounds the time.
    """

    rounds: int = 5
    least_rounds: int = 1
    open_seconds: float = 240.0
    making_seconds: float | None = None
    pass_factor: float = 30.0
    part_seconds: float = 3600.0


@dataclass(frozen=True)
class Plan:
    """A case with what its contestants are given.

    Attributes:
        case: without rows.
        system: of `bench.peers`: "texts", "images", "masks" or "joint".
        given: what `bench.peers.contract` says a case gives.
        threads: of each.
        entries: names of those that run it beside the baseline; None is all.
        chief: lets contestants take part that are measured seldom.
        kind: "files" lets contestants take part that are for files alone.
        parts: items → share of the case's work, ascending, where the first so many of what "texts" gives stand for all
            of them: a slow contestant computes no more than a part. The last is all; empty where all compute all.
    """

    case: Case
    system: str
    given: Mapping[str, Any]
    threads: int
    entries: frozenset[str] | None = None
    chief: bool = False
    kind: str = ""
    parts: Mapping[int, float] = field(default_factory=dict)

    def runs(self, entry: Entry) -> bool:
        """Whether a contestant takes part."""
        able = self.system in entry.systems or (self.kind != "" and self.kind in entry.systems)
        if entry.seldom and not self.chief:
            return False
        return able and (self.entries is None or entry.name in self.entries or entry.name == self.case.baseline)

    def least(self) -> Mapping[str, Any]:
        """What the smallest part gives."""
        return self.part(min(self.parts)) if self.parts else self.given

    def part(self, items: int) -> Mapping[str, Any]:
        """What a part gives."""
        return {**self.given, "texts": self.given["texts"][:items]}
