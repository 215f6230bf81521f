"""The time that a run may take, shared out among what it measures."""

from __future__ import annotations

import math
import time

__all__ = ["Clock"]


class Clock:
    """Shares out the time that is left by weight, so that what one case leaves the later ones gain."""

    def __init__(self, minutes: float | None, weight: float) -> None:
        """Begin.

        Args:
            minutes: in all; None is no bound.
            weight: of everything that is to be done.
        """
        self._end = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._weight = weight

    def share(self, weight: float) -> float:
        """Seconds for what is done next."""
        share = (self._end - time.monotonic()) * weight / max(self._weight, weight, 1e-9)
        self._weight -= weight
        return share
