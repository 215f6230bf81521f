"""Errors of the export, in the same tree as the runtime's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.bundle.artifacts import Trial
from runtime.errors import CxrEngineError

__all__ = ["CalibrationError", "CheckpointError", "DestinationError", "GateError", "GraphError"]


class CalibrationError(CxrEngineError):
    """The texts or images to calibrate with cannot be had or are too few."""


class CheckpointError(CxrEngineError):
    """The checkpoint cannot be had or does not hold the model that was asked for."""


class GraphError(CxrEngineError):
    """An exported graph is not portable ONNX or lost a dynamic axis."""


class GateError(CxrEngineError):
    """An artifact differs from PyTorch by more than its gate allows, or is of no use.

    Attributes:
        reason: what misses, in one line.
        required: figure → bound of what misses.
        best: figures of what came nearest.
        trials: recipes that were tried, in order.
        cause: see `runtime.bundle.artifacts.LeftOut`.
    """

    def __init__(
        self,
        message: str,
        missed: Sequence[str] = (),
        *,
        remedy: str = "",
        reason: str = "",
        required: Mapping[str, float] | None = None,
        best: Mapping[str, float] | None = None,
        trials: Sequence[Trial] = (),
        cause: str = "fidelity",
    ) -> None:
        """Begin.

        Args:
            message: what is wrong; that no bundle was written is added.
            missed: what misses, in words, a line each; the reason where no other is given.
            remedy: what to do.
        """
        lines = "\n  ".join((f"{message}; no bundle was written.", *missed))
        super().__init__("\n".join(filter(None, (lines, remedy))))
        self.reason = reason or "; ".join(missed)
        self.required = dict(required or {})
        self.best = dict(best or {})
        self.trials = tuple(trials)
        self.cause = cause


class DestinationError(CxrEngineError):
    """The bundle cannot be written where it was asked for."""
