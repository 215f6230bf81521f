"""How far a long run is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from runtime.process.console import note_stream, print_note

__all__ = ["Progress"]

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Counts items on stderr, with rate and time left; a context manager.

    Where stderr is no terminal a line appears every 30 s, so that short runs are silent and logs stay short. The rate
    is that of this run; what former runs did counts towards the total only.
    """

    def __init__(self, unit: str, total: int | None, done: int = 0) -> None:
        """Begin.

        Args:
            unit: "text" or "image".
            total: number of items in all; None where it is not known.
            done: those of former runs.
        """
        self._unit = unit
        self._total = total
        self._initial = self._done = done
        self._started = self._printed = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        stream = note_stream()
        if stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(file=stream, total=self._total, initial=self._done, unit=f" {self._unit}s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, items: int = 1) -> None:
        """Count items."""
        self._done += items
        if self._bar is not None:
            self._bar.update(items)
        elif (now := time.monotonic()) - self._printed >= _SECONDS_BETWEEN_LINES:
            self._printed = now
            print_note(self._line(now - self._started))

    def _line(self, seconds: float) -> str:
        rate = (self._done - self._initial) / seconds
        if self._total is None:
            return f"{self._done:,} {self._unit}s, {rate:.1f}/s"
        left = max(0, self._total - self._done) / rate
        share = f"{self._done:,} of {self._total:,} {self._unit}s"
        return f"{share}, {rate:.1f}/s, {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
