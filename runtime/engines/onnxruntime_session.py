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

from runtime.engines.gpu import cuda_options, library_fault, load_libraries
from runtime.engines.processor import CUDA
from runtime.engines.quick_start import QuickStart
from runtime.engines.session import Session, SessionOptions
from runtime.errors import ProviderError
from runtime.process import import_private
from runtime.process.forks import check_generation, generation, lost, opening, outlive, started

__all__ = ["OnnxRuntimeSession", "open_onnxruntime"]

_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
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


# Fusions that make graphs slower on processors. A bias and GELU in one operator take longer than one after the other:
# int8 BERT-base, 4 × 128 tokens, takes 0.986 of the processor time without it (ONNX Runtime 1.32), to the same bits.
_NO_GAIN = ("BiasGeluFusion",)

# Weights as they lie in the file. int8 products of whatever layout give the same integers, so results are the same bit
# for bit (tests/runtime/engines/test_quick_start.py); in float32 they differ by 5e-7. BERT-base opens in a third of the
# time (125 ms instead of 215 to 310) and answers in 13 ms instead of 9.
_AS_THEY_LIE = {"session.disable_prepacking": "1"}
_SAME_AS_THEY_LIE = frozenset({"int8"})


def open_onnxruntime(model: Path, execution_provider: str, options: SessionOptions) -> Session:
    """Open a graph, as `OnnxRuntimeSession` does; sooner where that is wanted and possible without other results.

    Raises:
        ProviderError: see `OnnxRuntimeSession`.
    """

    def opened(entries: Mapping[str, str]) -> Session:
        return OnnxRuntimeSession(model, execution_provider, {}, options, entries)

    if options.soon and execution_provider == _CPU and options.precision in _SAME_AS_THEY_LIE:
        return QuickStart(opened(_AS_THEY_LIE), lambda: options.open_later(lambda: opened({})))
    return opened({})


class OnnxRuntimeSession:
    """A graph run by ONNX Runtime with one execution provider (and on the processor what that leaves over)."""

    def __init__(
        self,
        model: Path,
        execution_provider: str,
        provider_options: Mapping[str, str],
        options: SessionOptions,
        entries: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Open the graph.

        Args:
            model: the .onnx file.
            execution_provider: ONNX Runtime's name of it, such as "CUDAExecutionProvider".
            provider_options: options of the execution provider; CUDA's go before those of `cuda_options`.
            options: threads and precision.
            entries: more of ONNX Runtime's settings.

        Raises:
            ProviderError: the session cannot be created, or ONNX Runtime fell back to another provider.
        """
        with opening():
            self._open(model, execution_provider, provider_options, options, entries)
        self._generation = generation()
        outlive(self)

    def _open(
        self,
        model: Path,
        execution_provider: str,
        provider_options: Mapping[str, str],
        options: SessionOptions,
        entries: Mapping[str, str],
    ) -> None:
        onnxruntime = import_private("onnxruntime")

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _ORT_ERRORS_ONLY
        # Each call computes on its own thread as well, so this many beside `streams` callers make `threads`.
        settings.intra_op_num_threads = max(1, options.threads - options.streams + 1)
        chosen = {**_ORT_ENTRIES.get(options.precision, {}), **(_SHARING if options.share else {}), **entries}
        for key, value in chosen.items():
            settings.add_session_config_entry(key, value)
        if execution_provider == _CUDA:
            provider_options = {**cuda_options(options.precision), **provider_options}
        providers = [(execution_provider, dict(provider_options))]
        if execution_provider == _TENSORRT:  # what TensorRT leaves over need not leave the GPU
            providers.append((_CUDA, cuda_options(options.precision)))
        if execution_provider != _CPU:
            fault = lost(CUDA)
            if fault is not None:
                raise ProviderError(f"{execution_provider} cannot open {model}: {fault}")
            load_libraries(execution_provider)
            started(CUDA)
        try:
            with _quiet_unless_cpu(execution_provider):
                self._session = onnxruntime.InferenceSession(
                    str(model),
                    settings,
                    providers=providers,
                    enable_fallback=0,
                    disabled_optimizers=list(_NO_GAIN) if execution_provider == _CPU else [],
                )
        except Exception as error:  # ONNX Runtime raises many unrelated types
            raise ProviderError(
                f"{execution_provider} cannot open {model}: {error}{_why_not_loaded(execution_provider)}"
            ) from error
        self._provider = execution_provider
        # ONNX Runtime opens a session on the CPU without a word where CUDA cannot be loaded.
        running = self._session.get_providers()
        if running[0] != execution_provider:
            raise ProviderError(
                f"{execution_provider} was asked for, but ONNX Runtime runs {model} on {running[0]} instead."
                f"{_why_not_loaded(execution_provider)}"
            )

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs from the named inputs.

        Raises:
            ProviderError: ONNX Runtime fails, for lack of memory say; the session is of a parent of this process.
        """
        check_generation(self._generation, "This session")
        try:
            results: list[NDArray[np.float32]] = self._session.run(list(outputs), dict(inputs))
        except Exception as error:  # ONNX Runtime raises many unrelated types
            shapes = ", ".join(f"{name} {'×'.join(map(str, array.shape))}" for name, array in inputs.items())
            raise ProviderError(f"{self._provider} cannot compute {shapes}: {error}") from error
        return results


@contextlib.contextmanager
def _quiet_unless_cpu(execution_provider: str) -> Iterator[None]:
    """Keep back what ONNX Runtime prints beside what it raises: when CUDA cannot be loaded, and later when cuDNN has no
    plan for a convolution in half precision and another is taken, some lines for each of them and each new shape.
    """
    onnxruntime = import_private("onnxruntime")
    if execution_provider == _CPU:
        yield
        return
    # Of the whole process, and for good: what it says of convolutions comes while they are computed.
    onnxruntime.set_default_logger_severity(_ORT_FATAL_ONLY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _why_not_loaded(execution_provider: str) -> str:
    """What the dynamic linker misses, and what to install."""
    if execution_provider == _CPU:
        return ""
    fault = library_fault(execution_provider)
    if fault is None:
        return " Its libraries are there, so the NVIDIA driver or the GPU is missing; nvidia-smi tells."
    return f" {fault[0].upper()}{fault[1:]}"
