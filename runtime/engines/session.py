"""What every engine's session offers, and what it is opened with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reduced", "Session", "SessionOptions", "reduced_or_raise"]

# What `__reduce__` returns: a function and its arguments.
Reduced: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True)
class SessionOptions:
    """What a session is opened with.

    Attributes:
        threads: number of threads that compute, at least 1.
        precision: what to compute in: the artifact's precision, or "bf16" for an fp32 artifact where the engine can
            do that (`Provider.from_fp32`). "fp32" is float32 on every engine, never less.
        streams: number of `run` calls that compute side by side, each on `threads` / `streams` threads; 1 answers a
            single call soonest, as many as threads get most done.
        share: other processes compute on the same processors: threads that wait do not spin, which would take time
            from those that compute.
        digest: names the graph and its weights, for what engines compile and keep; None keeps nothing.
        size: bytes of these files.
        cache: the root of the cache folders; None asks the environment.
        open_later: opens another session of the same files after the first one, of which they are still to be the same.
        wrap: what is made of every session that is opened, for those who schedule its calls.
        soon: the first answer is wanted soon after opening, if later ones stay fast and no result depends on it.
    """

    threads: int
    precision: str
    streams: int = 1
    share: bool = False
    digest: str | None = None
    size: int = 0
    soon: bool = False
    cache: Path | None = None
    wrap: Callable[[Session], Session] = field(default=lambda opened: opened, compare=False)
    open_later: Callable[[Callable[[], Session]], Session] = field(default=lambda opened: opened(), compare=False)


class Session(Protocol):
    """An opened graph."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs from the named inputs; may be called from several threads at once."""


def reduced_or_raise(owner: object, reduced: Reduced | None) -> Reduced:
    """How an engine or a part of it is pickled: as what opens it again, in whatever process.

    Raises:
        TypeError: it was not opened by `runtime.load`.
    """
    if reduced is None:
        raise TypeError(f"This {type(owner).__name__} cannot be pickled: it was not opened by runtime.load.")
    return reduced
