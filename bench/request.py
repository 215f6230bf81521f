"""What a run is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Attributes:
        checkpoint: see `bench.workloads.model.prepare`; so are `bundle`, `family`, `precisions` and `seed`.
        workloads: names; empty takes all that the bundle has the parts for.
        peers: names of contestants; empty takes all.
        threads: of each.
        rounds: counted, at most.
        full: without a bound on the time.
        minutes: in all, with what is exported: shared out among the cases, the first questions' before all others,
            which get fewer rounds, smaller parts and fewer peers than wanted; None is no bound.
        texts: a file of the user's, or None.
        column: of it.
        command: what to type to repeat the run.
    """

    checkpoint: Path | None
    bundle: Path | None
    family: str
    precisions: str
    seed: int
    workloads: tuple[str, ...]
    peers: tuple[str, ...]
    threads: int
    rounds: int
    full: bool
    minutes: float | None
    texts: Path | None
    column: str
    command: str
