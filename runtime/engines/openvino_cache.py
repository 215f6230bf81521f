"""Compiled OpenVINO models in the user's cache folder: int8 BERT-base opens in 0.2 s instead of 1.2.

OpenVINO's own cache (CACHE_DIR) takes a file whose weights were altered as it is. Here the file's name carries the
sha256 of its content, which is compared before it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runtime.engines.processor import processor_name
from runtime.process import import_private
from runtime.process.cache import cache_folder

__all__ = ["compile_cached"]

_LOG = logging.getLogger("runtime")
# Larger graphs are not kept: fp32 BERT-base takes as long to import as to compile.
_LARGEST = 256_000_000
# All files together; those used longest ago go first.
_MOST = 2_000_000_000
# What the importing process chooses anew; the compiled model is the same.
_FREE = frozenset({"INFERENCE_NUM_THREADS", "NUM_STREAMS", "ENABLE_CPU_PINNING"})


def compile_cached(
    core: Any, model: Path, settings: Mapping[str, Any], digest: str | None, size: int, cache: Path | None = None
) -> tuple[Any, Any]:
    """Compile a graph for the processor, or take what was compiled before.

    A file that is damaged is removed with a warning of the logger "runtime" and made anew; a folder that cannot be
    written is none.

    Args:
        core: openvino.Core.
        model: the .onnx file.
        settings: properties of the compiled model.
        digest: of the graph and its weights; None keeps nothing.
        size: bytes of both.
        cache: the root of the cache folders; None asks the environment.

    Returns:
        openvino.CompiledModel, and the memory that it may read, to be held as long as it is.
    """
    folder = cache_folder("openvino", cache) if digest and size <= _LARGEST else None
    if folder is None or digest is None:
        return core.compile_model(str(model), "CPU", dict(settings)), None
    key = _key(core, settings, digest)
    for file in sorted(folder.glob(f"{key}-*.blob")):
        imported = _import(core, file, settings)
        if imported is not None:
            return imported
    compiled = core.compile_model(str(model), "CPU", dict(settings))
    try:
        _store(compiled.export_model().getbuffer(), folder, key)
    except Exception as error:  # a full disk, or what OpenVINO cannot export
        _LOG.warning("The compiled model cannot be kept in %s: %s", folder, error)
    return compiled, None


def _key(core: Any, settings: Mapping[str, Any], digest: str) -> str:
    kept = {name: str(value) for name, value in settings.items() if name not in _FREE}
    machine = [core.get_versions("CPU")["CPU"].build_number, processor_name()]
    machine += sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return hashlib.sha256(json.dumps([digest, machine, kept], sort_keys=True).encode()).hexdigest()[:32]


def _import(core: Any, file: Path, settings: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """The compiled model in a file, or None where it is damaged."""
    openvino = import_private("openvino")
    try:
        # Private pages: OpenVINO asks for memory that may be written.
        with file.open("rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        if hashlib.sha256(content).hexdigest() != file.stem.rpartition("-")[2]:
            raise ValueError("its sha256 is not the one in its name")
        memory = np.frombuffer(content, np.uint8)
        compiled = core.import_model(openvino.Tensor(memory, shared_memory=True), "CPU", dict(settings))
    except Exception as error:  # OpenVINO raises RuntimeError and its own types
        _LOG.warning("The compiled model %s is damaged and is made anew: %s", file, error)
        with contextlib.suppress(OSError):
            file.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(file)
    return compiled, memory


def _store(content: memoryview, folder: Path, key: str) -> None:
    """Write a file, whole or not at all, and remove the oldest beyond what may be kept."""
    files = [(entry.stat().st_mtime, entry.stat().st_size, entry) for entry in folder.glob("*.blob")]
    room = _MOST - content.nbytes - sum(size for _, size, _ in files)
    for _, size, entry in sorted(files):
        if room < 0:
            entry.unlink(missing_ok=True)
            room += size
    descriptor, partial = tempfile.mkstemp(dir=folder, prefix=".partial-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(partial).replace(folder / f"{key}-{hashlib.sha256(content).hexdigest()}.blob")
    finally:
        Path(partial).unlink(missing_ok=True)
