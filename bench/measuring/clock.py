"""The time that a run may take, shared out among what it measures."""

from __future__ import annotations

import math
import time

__all__ = ["Clock"]


# Share of the time after which nothing is begun that need not be.
_LATE = 0.9


class Clock:
    """Shares out the time that is left by weight, so that what one case leaves the later ones gain."""

    def __init__(self, began: float, minutes: float | None) -> None:
        """Begin.

        Args:
            began: the run, by `time.monotonic`.
            minutes: in all; None is no bound.
        """
        self._end = math.inf if minutes is None else began + 60 * minutes
        self._late = math.inf if minutes is None else began + _LATE * 60 * minutes
        self._weight = 0.0

    @property
    def up(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() > self._end

    @property
    def late(self) -> bool:
        """Whether what is left is too little to begin with what need not be."""
        return time.monotonic() > self._late

    @property
    def bound(self) -> bool:
        """Whether there is a bound at all."""
        return math.isfinite(self._end)

    def expect(self, weight: float) -> None:
        """There is something more to be done."""
        self._weight += weight

    def share(self, weight: float) -> float:
        """Give what is done next its part.

        Args:
            weight: of it, which was expected.

        Returns:
            Seconds from now; not positive when the time is up, infinite without a bound.
        """
        if math.isinf(self._end):
            return math.inf
        share = (self._end - time.monotonic()) * weight / max(self._weight, weight, 1e-9)
        self._weight -= weight
        return share
