"""Run a changed copy of a graph that shares the original's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from runtime.engines import Provider, Session, SessionOptions
from runtime.engines.providers import default_threads

__all__ = ["opened_beside"]


@contextmanager
def opened_beside(source: Path, model: onnx.ModelProto, engine: Provider) -> Iterator[Session]:
    """Open a graph whose external weights are those of `source`; inner tensors may have become outputs.

    Engines read external weights only from the graph's own folder, so the copy lies there while it is in use.

    Args:
        source: the .onnx file with its weights beside it.
        model: the changed graph, its weights not loaded.
        engine: what runs it, in float32.

    Raises:
        ProviderError: the engine cannot open it.
    """
    copy = source.with_name(f".{source.stem}.watched.onnx")
    try:
        onnx.save(model, str(copy))
        yield engine.open(copy, SessionOptions(threads=default_threads(), precision="fp32"))
    finally:
        copy.unlink(missing_ok=True)
