"""What is warm."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from runtime.quick_start import OPENING

__all__ = ["settled"]


def settled(run: Callable[[], NDArray[Any]]) -> Callable[[], NDArray[Any]]:
    """Run twice, and wait for the sessions that the engine then opens to compute faster.

    Args:
        run: computes a workload by this engine.

    Returns:
        The same.
    """
    run()
    run()
    for thread in threading.enumerate():
        if thread.name == OPENING:
            thread.join()
    return run
