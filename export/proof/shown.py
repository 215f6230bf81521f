"""Which figures of fidelity the tables of an export show, and what came nearest to its gates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from export.proof.fidelity import AT_MOST
from runtime.bundle.artifacts import Trial

__all__ = ["SHOWN", "Figure", "bounds", "cells", "columns", "headings", "in_words", "nearest", "shortfall"]


@dataclass(frozen=True)
class Figure:
    """A figure of `export.proof.fidelity` in tables: its name, what stands above the column, and the decimals."""

    name: str
    heading: str
    digits: int


SHOWN = (
    Figure("mean_cosine", "mean cosine", 5),
    Figure("mean_centred_cosine", "centred", 5),
    Figure("min_cosine", "worst", 4),
    Figure("neighbour_regret", "regret", 4),
    Figure("neighbours_kept", "kept", 3),
    Figure("neighbour_agreement", "same", 3),
    Figure("pairs_mrr_change", "MRR", 4),
)
# Where there is such a figure alone; see `export.proof.zero_shot`.
SOMETIMES = (Figure("auroc_change", "AUROC", 4),)
# A gate of exactly 1 leaves no room by which a miss could be measured.
_LEAST_ROOM = 0.01


def columns(every: Iterable[Mapping[str, float]]) -> tuple[Figure, ...]:
    """The figures that a table shows: those of `SHOWN`, and those of `SOMETIMES` that any of its rows has."""
    there = {name for figures in every for name in figures}
    return (*SHOWN, *(figure for figure in SOMETIMES if figure.name in there))


def headings(chosen: Iterable[Figure] = SHOWN) -> tuple[str, ...]:
    """Of the columns that `cells` fills."""
    return tuple(figure.heading for figure in chosen)


def cells(
    figures: Mapping[str, float], others: Mapping[str, float] | None = None, chosen: Iterable[Figure] = SHOWN
) -> list[str]:
    """A cell for each figure chosen: "–" where there is none; in brackets that of `others`, where they have it."""
    shown = []
    for figure in chosen:
        found = f"{figures[figure.name]:.{figure.digits}f}" if figure.name in figures else "–"
        beside = f" ({others[figure.name]:.{figure.digits}f})" if others and figure.name in others else ""
        shown.append(found + beside)
    return shown


def in_words(figures: Mapping[str, float]) -> str:
    """The figures shown, in one line; empty where there are none."""
    there = [figure for figure in (*SHOWN, *SOMETIMES) if figure.name in figures]
    return ", ".join(f"{figure.heading} {figures[figure.name]:.{figure.digits}f}" for figure in there)


def bounds(gates: Mapping[str, float]) -> str:
    """The gates, in one line."""
    return ", ".join(f"{name} {'≤' if name in AT_MOST else '≥'} {bound:g}" for name, bound in gates.items())


def shortfall(figures: Mapping[str, float], gates: Mapping[str, float]) -> float:
    """By how much figures miss their gates: the sum of the misses, each relative to the room that its gate leaves.

    0 where all hold; infinite where one is not a number or was not measured at all.

    Args:
        figures: name → value.
        gates: name → bound; figures of AT_MOST are 0 at best, others 1.
    """
    misses = 0.0
    for name, bound in gates.items():
        value = figures.get(name, math.nan if not figures else bound)
        if math.isnan(value):
            return math.inf
        over, room = (value - bound, bound) if name in AT_MOST else (bound - value, 1 - bound)
        misses += max(0.0, over) / (room if name in AT_MOST else max(room, _LEAST_ROOM))
    return misses


def nearest(trials: Iterable[Trial], gates: Mapping[str, float]) -> Trial | None:
    """The recipe that misses its gates least, judged by the engine on which it misses most.

    Returns:
        Its trial on that engine; None where nothing was measured.
    """
    worst: dict[str, Trial] = {}
    for trial in trials:
        if trial.figures:
            before = worst.get(trial.recipe)
            if before is None or shortfall(trial.figures, gates) > shortfall(before.figures, gates):
                worst[trial.recipe] = trial
    return min(worst.values(), key=lambda trial: shortfall(trial.figures, gates), default=None)
