"""Graphs run by OpenVINO."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.openvino_cache import compile_cached
from runtime.engines.openvino_core import openvino_core
from runtime.engines.session import SessionOptions
from runtime.errors import ProviderError
from runtime.process import import_private
from runtime.process.forks import check_generation, generation, lost, opening, outlive, started

__all__ = ["OPENVINO", "OpenVinoSession"]

# In a forked child its scheduler (TBB) still counts on the parent's threads: of ten sessions opened anew there one
# waited for them for ever.
OPENVINO = "OpenVINO"

# What the engine must be told per precision.
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
        with opening():
            self._open(model, options)
        # A request serves one call at a time; they are kept for the next.
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._generation = generation()
        outlive(self)

    def _open(self, model: Path, options: SessionOptions) -> None:
        fault = lost(OPENVINO)
        if fault is not None:
            raise ProviderError(f"OpenVINO cannot open {model}: {fault}")
        openvino = import_private("openvino")

        started(OPENVINO)
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": options.threads, "NUM_STREAMS": options.streams}
        settings.update(_OPENVINO_SETTINGS.get(options.precision, {}))
        if options.share:  # pinned threads of two processes would wait for the same processors
            settings["ENABLE_CPU_PINNING"] = False
        try:
            self._compiled, self._memory = compile_cached(
                openvino_core(), model, settings, options.digest, options.size, options.cache
            )
        except Exception as error:  # OpenVINO raises RuntimeError and its own types
            hint = " OpenVINO follows no symbolic links: copy the bundle with cp -rL." if model.is_symlink() else ""
            raise ProviderError(f"OpenVINO cannot open {model}: {error}{hint}") from error
        # The first use of Tensor.data initializes something under a lock of C++ and lets go of Python's meanwhile: two
        # threads that come first together wait for each other for ever (tests/runtime/engines/test_openvino.py).
        _ = openvino.Tensor(np.zeros(1, np.float32)).data

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs from the named inputs.

        Raises:
            ProviderError: the session is of a parent of this process.
        """
        check_generation(self._generation, "This session")
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        results = request.infer(dict(inputs))
        found = [np.array(results[name]) for name in outputs]
        self._idle.put(request)
        return found
