"""One protocol for running a graph, one class per engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ProviderError

__all__ = ["OnnxRuntimeSession", "OpenVinoSession", "Session", "SessionOptions"]

_ORT_ERRORS_ONLY = 3


@dataclass(frozen=True)
class SessionOptions:
    """What a session is opened with.

    Attributes:
        threads: number of threads inside one operator, at least 1.
        precision: precision of the artifact; float32 artifacts are computed in float32 on every engine.
    """

    threads: int
    precision: str


class Session(Protocol):
    """An opened graph."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs from the named inputs."""


class OnnxRuntimeSession:
    """A graph run by ONNX Runtime with one execution provider (and on the processor what that leaves over)."""

    def __init__(
        self, model: Path, execution_provider: str, provider_options: Mapping[str, str], options: SessionOptions
    ) -> None:
        """Open the graph.

        Args:
            model: the .onnx file.
            execution_provider: ONNX Runtime's name of it, such as "CUDAExecutionProvider".
            provider_options: options of the execution provider.
            options: threads and precision.

        Raises:
            ProviderError: the session cannot be created, or ONNX Runtime fell back to another provider.
        """
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _ORT_ERRORS_ONLY
        settings.intra_op_num_threads = options.threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), settings, providers=[(execution_provider, dict(provider_options))]
            )
        except Exception as error:  # ONNX Runtime raises many unrelated types
            raise ProviderError(f"{execution_provider} cannot open {model}: {error}") from error
        # ONNX Runtime opens a session on the CPU without a word where CUDA cannot be loaded.
        running = self._session.get_providers()
        if running[0] != execution_provider:
            raise ProviderError(
                f"{execution_provider} was asked for, but ONNX Runtime runs {model} on {running[0]}: "
                "the provider's libraries (CUDA, cuDNN or TensorRT) could not be loaded."
            )

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs from the named inputs."""
        results: list[NDArray[np.float32]] = self._session.run(list(outputs), dict(inputs))
        return results


class OpenVinoSession:
    """A graph run by OpenVINO on the processor, in the artifact's own precision."""

    def __init__(self, model: Path, options: SessionOptions) -> None:
        """Open the graph.

        Raises:
            ProviderError: OpenVINO cannot read or compile it.
        """
        import openvino

        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": options.threads, "PERFORMANCE_HINT": "LATENCY"}
        if options.precision == "fp32":
            # Processors with BF16 units would otherwise compute in bfloat16, beyond the fp32 gate.
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            self._compiled = openvino.Core().compile_model(str(model), "CPU", settings)
        except Exception as error:  # OpenVINO raises RuntimeError and its own types
            raise ProviderError(f"OpenVINO cannot open {model}: {error}") from error

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs from the named inputs."""
        results = self._compiled(dict(inputs))
        return [np.array(results[name]) for name in outputs]
