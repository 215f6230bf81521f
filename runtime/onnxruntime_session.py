"""Graphs run by ONNX Runtime."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ProviderError
from runtime.gpu import CUDA_OPTIONS, library_fault, load_libraries
from runtime.session import SessionOptions

__all__ = ["OnnxRuntimeSession"]

_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_ORT_DEFAULT = 2
_ORT_ERRORS_ONLY = 3
_ORT_FATAL_ONLY = 4

# What an engine must be told per precision; one that is not listed needs nothing.
_ORT_ENTRIES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    # Activations times blockwise int8 weights in int8; by default the weights would be unpacked to float32.
    {precision: {"session.qdq_matmulnbits_accuracy_level": "4"} for precision in ("int8", "int8-dynamic")}
)

# Two processes with a BERT-base each, batch 1 × 32 tokens, 2 threads on the same 2 processors, which others used as
# well: 5 texts a second each with spinning, 12 without; 95th percentile 310 ms and 105 ms.
_SHARING: Mapping[str, str] = MappingProxyType(
    {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}
)


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
        # Each call computes on its own thread as well, so this many beside `streams` callers make `threads`.
        settings.intra_op_num_threads = max(1, options.threads - options.streams + 1)
        for key, value in {**_ORT_ENTRIES.get(options.precision, {}), **(_SHARING if options.share else {})}.items():
            settings.add_session_config_entry(key, value)
        providers = [(execution_provider, dict(provider_options))]
        if execution_provider == _TENSORRT:  # what TensorRT leaves over need not leave the GPU
            providers.append((_CUDA, dict(CUDA_OPTIONS)))
        if execution_provider != _CPU:
            load_libraries(execution_provider)
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

    if execution_provider == _CPU:
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
    if execution_provider == _CPU:
        return ""
    fault = library_fault(execution_provider)
    if fault is None:
        return " Its libraries are there, so the NVIDIA driver or the GPU is missing; nvidia-smi tells."
    return f" {fault[0].upper()}{fault[1:]}"
