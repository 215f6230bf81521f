"""What pydicom says about a file stays inside: its warnings, log lines and errors quote values of the header."""

from __future__ import annotations

import contextlib
import logging
import warnings

from runtime.process.forks import ForkSafeLock, in_children

__all__ = ["SILENCE", "Silence"]


class Silence:
    """Holds back the warnings of the whole process, and pydicom's log lines, while any thread is inside.

    Both are global settings, which `catch_warnings` alone would leave wrong where threads come and go in any order.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._inside = 0
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._restore.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                # pydicom's modules have loggers of their own, whose records pass up through this one's handlers only.
                logger = logging.getLogger("pydicom")
                for name, value in (("propagate", False), ("handlers", [logging.NullHandler()])):
                    self._restore.callback(setattr, logger, name, getattr(logger, name))
                    setattr(logger, name, value)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore.close()

    def end(self) -> None:
        """Nobody is inside any more: threads that were are not in a forked child."""
        self._inside = 0
        self._restore.close()


SILENCE = Silence()
in_children(SILENCE.end)
