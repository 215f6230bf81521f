"""A session that answers soon after it was asked for, and fast soon after that."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.session import Session
from runtime.errors import CxrEngineError
from runtime.process.forks import ForkSafeLock

__all__ = ["OPENING", "QuickStart"]

_LOG = logging.getLogger("runtime")
# A process that asks once never pays for what would only be quicker the next time.
_SWITCH_AT = 2
# Name of the threads that open the other session.
OPENING = "cxr-engine-opening"


class QuickStart:
    """Two sessions of one graph: one that is opened quickly, and one that computes quickly, which takes over.

    The second is opened on a thread of its own, beginning with the second call. Both must compute the very same bits:
    from which of them a result is must not matter.
    """

    def __init__(self, opened: Session, open_fast: Callable[[], Session]) -> None:
        """Put the two together.

        Args:
            opened: answers until the other one is there.
            open_fast: opens the other; if it raises an error of this project, the first goes on.
        """
        self._session = opened
        self._open_fast = open_fast
        self._calls = 0
        self._lock = ForkSafeLock()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs from the named inputs."""
        if self._calls < _SWITCH_AT:
            self._count()
        return self._session.run(outputs, inputs)

    def _count(self) -> None:
        with self._lock:
            self._calls += 1
            if self._calls == _SWITCH_AT:
                # Not a daemon: a process that ends amid the engine's own code would crash.
                threading.Thread(target=self._switch, name=OPENING).start()

    def _switch(self) -> None:
        try:
            self._session = self._open_fast()
        except CxrEngineError as error:
            _LOG.warning("The faster session could not be opened, the first one goes on: %s", error)
