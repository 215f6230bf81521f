"""OpenVINO's Core: one for the process, kept until it ends.

Its plugin for processors gives the thread that creates it a stack for signals, and unmaps that when it is destroyed,
from whichever thread that happens. Python runs signal handlers on such stacks: a process whose first model was loaded
by its main thread and let go by another, as a server's is when it reloads, died of SIGSEGV at its next signal (OpenVINO
2026.4, Linux).
"""

from __future__ import annotations

import ctypes
from typing import Any

from runtime.process import import_private
from runtime.process.forks import ForkSafeLock, generation

__all__ = ["openvino_core"]

_lock = ForkSafeLock()
# By the generation of the process: a forked child has its own.
_cores: dict[int, Any] = {}


def openvino_core() -> Any:
    """The openvino.Core of this process.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    with _lock:
        now = generation()
        if now not in _cores:
            core = import_private("openvino").Core()
            # Not even at the end, where threads may still be at work, nor in a forked child.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(core))
            _cores[now] = core
        return _cores[now]
