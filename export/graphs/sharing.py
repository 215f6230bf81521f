"""Weights that several graphs read from one file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, set_external_data, uses_external_data

__all__ = ["data_files", "share_weights"]

_Key = tuple[tuple[int, ...], int, bytes]


def share_weights(graph: onnx.GraphProto, source: Path) -> None:
    """Let tensors of a graph refer to those of another that hold the same bytes, whatever their names.

    Args:
        graph: its weights are loaded; those that are the other's as well lose theirs.
        source: the other graph; its weights lie beside it, and it lies where the first will.
    """
    there: dict[_Key, ExternalDataInfo] = {}
    for tensor in onnx.load(str(source), load_external_data=False).graph.initializer:
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            with (source.parent / info.location).open("rb") as stream:
                stream.seek(info.offset or 0)
                there[_key(tensor, stream.read(info.length))] = info
    for tensor in graph.initializer:
        found = there.get(_key(tensor, tensor.raw_data)) if tensor.raw_data else None
        if found is not None:
            set_external_data(tensor, found.location, found.offset, found.length)
            tensor.ClearField("raw_data")


def data_files(model: onnx.ModelProto) -> list[str]:
    """Names of the files with a graph's weights, in the order in which they are read first."""
    tensors = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    return list(dict.fromkeys(ExternalDataInfo(tensor).location for tensor in tensors))


def _key(tensor: onnx.TensorProto, content: bytes) -> _Key:
    return tuple(tensor.dims), tensor.data_type, hashlib.sha256(content).digest()
