"""How long work takes, learnt from the work done."""

from __future__ import annotations

__all__ = ["Rate"]

# What a new measurement weighs.
_WEIGHT = 0.1


class Rate:
    """Seconds for one unit of a kind of work: a token, or an image."""

    def __init__(self, guess: float) -> None:
        """Begin with a guess; the first measurement replaces it."""
        self.seconds = guess
        self._measured = False

    def learn(self, units: int, seconds: float) -> None:
        """Take in that so many units took so long together."""
        if units <= 0:
            return
        each = seconds / units
        self.seconds = each if not self._measured else (1 - _WEIGHT) * self.seconds + _WEIGHT * each
        self._measured = True
