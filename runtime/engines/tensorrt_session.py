"""Graphs run by TensorRT through ONNX Runtime: an engine for each bucket of shapes, kept in the user's cache folder.

Building an engine takes minutes; `python -m export tensorrt` does it ahead of time. Not run on a GPU: there was none.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.engines.gpu import (
    GraphInput,
    Shapes,
    engine_key,
    library_fault,
    model_digest,
    plan_buckets,
    tensorrt_options,
    tensorrt_version,
)
from runtime.engines.onnxruntime_session import OnnxRuntimeSession
from runtime.engines.processor import first_gpu
from runtime.engines.session import SessionOptions
from runtime.errors import ProviderError
from runtime.process import import_private
from runtime.process.cache import cache_folder

__all__ = ["TensorRtSession", "graph_inputs", "model_folder", "save_shapes"]

_EXECUTION_PROVIDER = "TensorrtExecutionProvider"
_SHAPES = "shapes.json"
_LOG = logging.getLogger("runtime")
_Opened = TypeVar("_Opened")


class TensorRtSession:
    """A graph run by TensorRT (and by CUDA what that leaves over)."""

    def __init__(self, model: Path, options: SessionOptions) -> None:
        """Open the graph: load the engines from the cache, or build them.

        Args:
            model: the .onnx file.
            options: threads and precision.

        Raises:
            ProviderError: TensorRT cannot be loaded, or cannot build the engines.
        """
        fault = library_fault(_EXECUTION_PROVIDER)
        if fault is not None:
            raise ProviderError(f"{_EXECUTION_PROVIDER} cannot open {model}: {fault}")
        inputs = graph_inputs(model)
        self._axes = {each.name: each.axes for each in inputs}
        top = cache_folder("tensorrt", options.cache)
        folder = top and model_folder(top, model)
        try:
            buckets = plan_buckets(inputs, _saved_shapes(folder))
        except ValueError as error:
            raise ProviderError(f"TensorRT cannot be given shapes for {model}: {error}") from None
        versions = _versions()
        timings = top and _made(top / f"timings-{engine_key(first_gpu(), *versions)}")
        self._engines = []
        for bucket in buckets:
            plain = tensorrt_options(options.precision, inputs, bucket, None, None)
            cache = folder and _made(folder / engine_key(first_gpu(), *versions, plain))
            given = tensorrt_options(options.precision, inputs, bucket, cache, timings)

            if cache is None or not any(cache.iterdir()):
                _LOG.warning(
                    "TensorRT builds an engine of %s for shapes up to %s, which takes minutes. "
                    "Build it ahead of time with: python -m export tensorrt BUNDLE",
                    model.name,
                    plain["trt_profile_max_shapes"],
                )

            def open_engine(given: Mapping[str, str] = given) -> OnnxRuntimeSession:
                return OnnxRuntimeSession(model, _EXECUTION_PROVIDER, given, options)

            self._engines.append((bucket, _open_or_rebuild(open_engine, cache, timings)))

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the named outputs from the named inputs, a batch larger than the engines take in pieces."""
        sizes = {
            axis: size
            for name, array in inputs.items()
            for axis, size in zip(self._axes[name], array.shape, strict=True)
            if isinstance(axis, str)
        }
        length = sizes.get("sequence", 0)
        fitting = [pair for pair in self._engines if length <= pair[0].sizes.get("sequence", (0, 0))[1]]
        if not fitting:
            longest = self._engines[-1][0].sizes["sequence"][1]
            raise ProviderError(
                f"The TensorRT engines take up to {longest} tokens; {length} came. "
                f"Build others with: python -m export tensorrt BUNDLE --lengths {longest},{length}"
            )
        bucket, engine = fitting[0]
        most = bucket.sizes["batch"][1]
        pieces = [
            engine.run(outputs, {name: array[start : start + most] for name, array in inputs.items()})
            for start in range(0, sizes["batch"], most)
        ]
        return pieces[0] if len(pieces) == 1 else [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def graph_inputs(model: Path) -> tuple[GraphInput, ...]:
    """The inputs of a graph, read by ONNX Runtime without preparing to run it (BERT-base: 0.08 s).

    Raises:
        ProviderError: it cannot be read.
    """
    onnxruntime = import_private("onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.add_session_config_entry("session.disable_prepacking", "1")
    try:
        session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many unrelated types
        raise ProviderError(f"ONNX Runtime cannot read {model}: {error}") from error
    return tuple(
        GraphInput(each.name, tuple("unnamed" if axis is None else axis for axis in each.shape))
        for each in session.get_inputs()
    )


def model_folder(top: Path, model: Path) -> Path:
    """The cache folder of a graph's engines, by the digest of the graph and its weights; created."""
    return _made(top / model_digest(model)[:16])


def save_shapes(folder: Path, shapes: Shapes) -> None:
    """Keep what a graph's engines are to be built for; sessions opened later read it."""
    (folder / _SHAPES).write_text(shapes.to_json(), encoding="utf-8")


def _saved_shapes(folder: Path | None) -> Shapes:
    if folder is None or not (folder / _SHAPES).exists():
        return Shapes()
    try:
        return Shapes.from_json((folder / _SHAPES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _LOG.warning("%s cannot be used (%s): engines take the default shapes.", folder / _SHAPES, error)
        return Shapes()


def _open_or_rebuild(open_engine: Callable[[], _Opened], cache: Path | None, timings: Path | None) -> _Opened:
    """Open an engine; where that fails with a cached one, which may be cut short, build it anew, once."""
    try:
        return open_engine()
    except ProviderError as error:
        # A cached engine is not to blame for a full GPU.
        if cache is None or not any(cache.iterdir()) or "out of memory" in str(error).lower():
            raise
        _LOG.warning("The TensorRT engine in %s cannot be used and is built anew: %s", cache, error)
        for folder in (cache, timings):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
                _made(folder)
        return open_engine()


def _versions() -> tuple[str, str]:
    onnxruntime = import_private("onnxruntime")
    return onnxruntime.__version__, tensorrt_version() or "unknown"


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
