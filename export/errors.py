"""Errors of the export, in the same tree as the runtime's."""

from __future__ import annotations

from runtime.errors import CxrEngineError

__all__ = ["CalibrationError", "CheckpointError", "DestinationError", "GateError", "GraphError"]


class CalibrationError(CxrEngineError):
    """The texts or images to calibrate with cannot be had or are too few."""


class CheckpointError(CxrEngineError):
    """The checkpoint cannot be had or does not hold the model that was asked for."""


class GraphError(CxrEngineError):
    """An exported graph is not portable ONNX or lost a dynamic axis."""


class GateError(CxrEngineError):
    """An artifact differs from PyTorch by more than its gate allows."""


class DestinationError(CxrEngineError):
    """The bundle cannot be written where it was asked for."""
