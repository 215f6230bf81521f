"""The fastest floating point on each engine: int8 that is no faster there is of no use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.proof import Judge
from runtime.bundle import Artifact, FidelityRecord
from runtime.engines import SessionOptions
from runtime.engines.providers import default_threads

__all__ = ["Rival", "find_rivals", "not_faster"]

# Batches of models that are done in less say more of overheads than of products, and the search costs little there.
_LEAST_MILLISECONDS = 5.0
# A recipe that is as much faster needs no second look. Times of different minutes differ by up to a tenth where other
# work shares the processor, so that any other is timed again in turns with its rival.
_CLEARLY_FASTER = 0.9
_ROUNDS = 3


@dataclass(frozen=True)
class Rival:
    """The fastest floating point on one engine: the graph, what it is computed in, and the time of a batch."""

    model: Path
    precision: str
    milliseconds: float


def find_rivals(artifacts: Iterable[Artifact], bundle: Path) -> dict[str, Rival]:
    """Engine → its rival, of floating-point artifacts that are meant for the engine that measured them."""
    rivals: dict[str, Rival] = {}
    for artifact in artifacts:
        for record in artifact.fidelity:
            before = rivals.get(record.provider)
            if record.provider in artifact.providers and (before is None or record.milliseconds < before.milliseconds):
                rivals[record.provider] = Rival(bundle / artifact.file, record.precision, record.milliseconds)
    return rivals


def not_faster(
    records: Iterable[FidelityRecord],
    providers: Iterable[str],
    model: Path,
    rivals: Mapping[str, Rival],
    judge: Judge,
) -> str:
    """Compare the times of an int8 graph with its rivals'.

    Args:
        records: of the graph.
        providers: engines that it is meant for: times of one that stands in say nothing.
        model: the graph.
        rivals: by engine.
        judge: takes the times.

    Returns:
        Why the graph is not faster, in words: it is on none of its engines that can tell. Empty where it is faster on
        one of them, or none can tell.
    """
    slower = []
    for record in records:
        rival = rivals.get(record.provider)
        if rival is None or record.provider not in providers or rival.milliseconds < _LEAST_MILLISECONDS:
            continue
        if record.milliseconds < _CLEARLY_FASTER * rival.milliseconds:
            return ""
        found, best = _in_turns(model, rival, record, judge)
        if found < best:
            return ""
        slower.append(f"{rival.precision} on {record.provider} ({found:.1f} ms a batch against {best:.1f})")
    return f"not faster than {' and '.join(slower)}" if slower else ""


def _in_turns(model: Path, rival: Rival, record: FidelityRecord, judge: Judge) -> tuple[float, float]:
    """Median times of the graph and of its rival, each measured right after the other."""
    (engine,) = (each for each in judge.engines if each.name == record.provider)
    sessions = [
        engine.open(path, SessionOptions(threads=default_threads(), precision=precision))
        for path, precision in ((model, record.precision), (rival.model, rival.precision))
    ]
    times = np.median([[judge.milliseconds(session) for session in sessions] for _ in range(_ROUNDS)], axis=0)
    return float(times[0]), float(times[1])
