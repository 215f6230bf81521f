"""One protocol for running a graph, one class per engine."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ProviderError

__all__ = ["OnnxRuntimeSession", "OpenVinoSession", "Session", "SessionOptions"]

_ORT_DEFAULT = 2
_ORT_ERRORS_ONLY = 3
_ORT_FATAL_ONLY = 4

# What an engine must be told per precision; one that is not listed needs nothing.
_ORT_ENTRIES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    # Activations times blockwise int8 weights in int8; by default the weights would be unpacked to float32.
    {precision: {"session.qdq_matmulnbits_accuracy_level": "4"} for precision in ("int8", "int8-dynamic")}
)
_OPENVINO_SETTINGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        # Processors with BF16 units would otherwise compute in bfloat16, beyond the fp32 gate.
        "fp32": {"INFERENCE_PRECISION_HINT": "f32"},
        "bf16": {"INFERENCE_PRECISION_HINT": "bf16"},
        # x86-64 processors compute float16 graphs in float32, or, without the hint, in bfloat16.
        "fp16": {"INFERENCE_PRECISION_HINT": "f32"},
        # The size of a block in graphs with scales per block; it changes nothing in others.
        "int8": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "64"},
        "int8-dynamic": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "64"},
    }
)


@dataclass(frozen=True)
class SessionOptions:
    """What a session is opened with.

    Attributes:
        threads: number of threads inside one operator, at least 1.
        precision: what to compute in: the artifact's precision, or "bf16" for an fp32 artifact where the engine can
            do that (`Provider.from_fp32`). "fp32" is float32 on every engine, never less.
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
        for key, value in _ORT_ENTRIES.get(options.precision, {}).items():
            settings.add_session_config_entry(key, value)
        providers = [(execution_provider, dict(provider_options))]
        try:
            with _quiet_unless_cpu(execution_provider):
                self._session = onnxruntime.InferenceSession(
                    str(model), settings, providers=providers, enable_fallback=0
                )
        except Exception as error:  # ONNX Runtime raises many unrelated types
            raise ProviderError(
                f"{execution_provider} cannot open {model}: {error}{_why_not_loaded(execution_provider)}"
            ) from error
        # ONNX Runtime opens a session on the CPU without a word where CUDA cannot be loaded.
        running = self._session.get_providers()
        if running[0] != execution_provider:
            raise ProviderError(
                f"{execution_provider} was asked for, but ONNX Runtime runs {model} on {running[0]} instead."
                f"{_why_not_loaded(execution_provider)}"
            )

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs from the named inputs."""
        results: list[NDArray[np.float32]] = self._session.run(list(outputs), dict(inputs))
        return results


@contextlib.contextmanager
def _quiet_unless_cpu(execution_provider: str) -> Iterator[None]:
    """Keep back what ONNX Runtime prints when CUDA cannot be loaded: the error that is raised says it."""
    import onnxruntime

    if execution_provider == "CPUExecutionProvider":
        yield
        return
    onnxruntime.set_default_logger_severity(_ORT_FATAL_ONLY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        onnxruntime.set_default_logger_severity(_ORT_DEFAULT)


def _why_not_loaded(execution_provider: str) -> str:
    """What the dynamic linker misses, and what to install."""
    import onnxruntime

    if execution_provider == "CPUExecutionProvider":
        return ""
    name = execution_provider.removesuffix("ExecutionProvider").lower()
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return (
            f" Its libraries cannot be loaded: {error}. Install an NVIDIA driver, and CUDA and cuDNN with: "
            "pip install 'onnxruntime-gpu[cuda,cudnn]' (for TensorRT also: pip install tensorrt)."
        )
    return " Its libraries are there, so the NVIDIA driver or the GPU is missing; nvidia-smi tells."


class OpenVinoSession:
    """A graph run by OpenVINO on the processor."""

    def __init__(self, model: Path, options: SessionOptions) -> None:
        """Open the graph.

        Args:
            model: the .onnx file.
            options: threads and precision. "bf16" is not checked here: OpenVINO takes it where the processor has no
                such instructions as well, see `Provider.refuses`.

        Raises:
            ProviderError: OpenVINO cannot read or compile it.
        """
        import openvino

        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": options.threads, "PERFORMANCE_HINT": "LATENCY"}
        settings.update(_OPENVINO_SETTINGS.get(options.precision, {}))
        try:
            self._compiled = openvino.Core().compile_model(str(model), "CPU", settings)
        except Exception as error:  # OpenVINO raises RuntimeError and its own types
            hint = " OpenVINO follows no symbolic links: copy the bundle with cp -rL." if model.is_symlink() else ""
            raise ProviderError(f"OpenVINO cannot open {model}: {error}{hint}") from error
        # A request serves one call at a time; each thread of the application gets its own.
        self._local = threading.local()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs from the named inputs."""
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        results = self._local.request.infer(dict(inputs))
        return [np.array(results[name]) for name in outputs]
