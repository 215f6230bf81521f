"""torch → portable ONNX: export, clean, check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import torch
from onnx.external_data_helper import set_external_data
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import nn

from export.errors import GraphError
from export.graphs.quiet import quiet
from runtime.bundle.artifacts import Artifact, TensorSpec

__all__ = ["OPSET", "GraphInfo", "GraphSpec", "check_graph", "export_graph", "face_of", "save_weights_apart"]

# The newest opset that the current releases of ONNX Runtime, OpenVINO and TensorRT all read and that torch writes
# without converting.
OPSET = 18

# Weights from this size on go to the external file, which engines map instead of copying.
_EXTERNAL_BYTES = 1024

_Axes = tuple[str | int, ...]


@dataclass(frozen=True)
class GraphSpec:
    """What a graph must look like from outside.

    Attributes:
        inputs: name → axes; a name is a dynamic axis, a number a fixed one.
        outputs: name → axes, in order.
        limits: dynamic axis → largest size that must work, or None.
        external_data: file name for the weights, beside the graph.
    """

    inputs: Mapping[str, _Axes]
    outputs: Mapping[str, _Axes]
    limits: Mapping[str, int | None]
    external_data: str = "model.onnx_data"


@dataclass(frozen=True)
class GraphInfo:
    """What `check_graph` read from a graph."""

    opset: int
    operators: dict[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def face_of(
    artifact: Artifact,
    role: str,
    file: str,
    info: GraphInfo,
    *,
    providers: tuple[str, ...] | None = None,
    external_data: tuple[str, ...] | None = None,
) -> Artifact:
    """Describe another graph of an artifact's weights, of which nothing is proven yet.

    Args:
        artifact: whose weights it reads.
        role: of the graph.
        file: named from the bundle.
        info: what `check_graph` read from it.
        providers: engines that it is for; None for the artifact's.
        external_data: files of its weights; None for the artifact's.
    """
    return replace(
        artifact,
        role=role,
        file=file,
        providers=artifact.providers if providers is None else providers,
        external_data=artifact.external_data if external_data is None else external_data,
        opset=info.opset,
        operators=info.operators,
        inputs=info.inputs,
        outputs=info.outputs,
        parity=(),
        fidelity=(),
        recipe=None,
    )


def export_graph(module: nn.Module, example: tuple[torch.Tensor, ...], spec: GraphSpec, path: Path) -> GraphInfo:
    """Export a module to ONNX with its weights in an external file, and check the result.

    Args:
        module: in evaluation mode.
        example: one tensor per input; dynamic axes should have a size of at least 2.
        spec: names and axes.
        path: the .onnx file to write; the weights go beside it.

    Raises:
        GraphError: torch cannot export it, or the result fails `check_graph`.
    """
    dimensions = {axis: torch.export.Dim(axis, min=1, max=limit) for axis, limit in spec.limits.items()}
    shapes = tuple(
        {index: dimensions[axis] for index, axis in enumerate(axes) if isinstance(axis, str)}
        for axes in spec.inputs.values()
    )
    with quiet():
        try:
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(spec.inputs),
                output_names=list(spec.outputs),
                dynamic_shapes=shapes,
                optimize=True,
                verbose=False,
            )
        except Exception as error:  # the exporter raises many types
            raise GraphError(f"torch cannot export {path.name}: {error}") from error
        # Stack traces of the exporting machine do not belong in a bundle.
        ClearMetadataAndDocStringPass()(program.model)
        onnx_ir.save(program.model, path, external_data=spec.external_data, size_threshold_bytes=_EXTERNAL_BYTES)
    return check_graph(path, spec)


def check_graph(path: Path, spec: GraphSpec) -> GraphInfo:
    """Assert that a graph is portable and that its axes are as specified.

    Raises:
        GraphError: invalid ONNX, operators outside the ONNX standard, local functions, unexpected inputs, outputs or
            axes. All faults are listed together.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the checker raises its own types
        raise GraphError(f"{path.name} is not valid ONNX: {error}") from error
    model = onnx.load(str(path), load_external_data=False)
    faults = []
    nodes = list(_nodes(model.graph))
    foreign = sorted({f"{node.domain}::{node.op_type}" for node in nodes if node.domain not in ("", "ai.onnx")})
    if foreign:
        faults.append(f"operators outside the ONNX standard: {', '.join(foreign)}")
    if model.functions:
        faults.append(f"local functions: {', '.join(function.name for function in model.functions)}")
    inputs = tuple(_tensor_spec(value) for value in model.graph.input)
    outputs = tuple(_tensor_spec(value) for value in model.graph.output)
    for kind, found, expected in (("inputs", inputs, spec.inputs), ("outputs", outputs, spec.outputs)):
        axes = [(tensor.name, tensor.axes) for tensor in found]
        if axes != list(expected.items()):
            faults.append(f"{kind} are {dict(axes)}, expected {dict(expected)}, in that order")
    if faults:
        raise GraphError(f"{path.name} is not the graph that was asked for:\n  " + "\n  ".join(faults))
    operators = Counter(node.op_type for node in nodes)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return GraphInfo(opset, dict(sorted(operators.items())), inputs, outputs)


def save_weights_apart(model: onnx.ModelProto, path: Path, data: str) -> None:
    """Write a graph, and its large weights to a file beside it.

    What `onnx.save` does with `save_as_external_data`, which asks for the time and the network card's address for a
    name that it does not use, and keeps them in a file of the system.

    Args:
        model: gets references in place of these weights.
        path: the .onnx file to write.
        data: name of the file with the weights.
    """
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= _EXTERNAL_BYTES:
            set_external_data(tensor, data)
    onnx.save(model, str(path))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those in the bodies of If and Loop included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body)


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    axes: _Axes = tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
    return TensorSpec(value.name, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name, axes)
