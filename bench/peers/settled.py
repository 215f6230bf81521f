"""What is warm."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from runtime.engines.quick_start import OPENING, QuickStart

__all__ = ["settled"]


def settled(run: Callable[[], NDArray[Any]]) -> Callable[[], NDArray[Any]]:
    """Run, and where the engine began with sessions that open quickly, wait for those that compute quickly.

    Args:
        run: computes a workload by this engine.

    Returns:
        The same.
    """
    run()
    if any(type(each) is QuickStart for each in gc.get_objects()):
        run()  # they open the others at the second call
        for thread in threading.enumerate():
            if thread.name == OPENING:
                thread.join()
    return run
