"""What sessions and workers do, for tests that watch them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from runtime.engines.onnxruntime_session import OnnxRuntimeSession

Inputs = Mapping[str, np.ndarray]


def watch_runs(monkeypatch: pytest.MonkeyPatch, told: Callable[[OnnxRuntimeSession, Inputs], Any]) -> list[Any]:
    """A list that every run of an ONNX Runtime session from now on appends what `told` says of it to."""
    found: list[Any] = []
    run = OnnxRuntimeSession.run

    def watched(self: OnnxRuntimeSession, outputs: Any, inputs: Inputs) -> Any:
        found.append(told(self, inputs))
        return run(self, outputs, inputs)

    monkeypatch.setattr(OnnxRuntimeSession, "run", watched)
    return found


def threads_left() -> list[str]:
    """Names of this package's threads that have not ended."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cxr-engine")]
