"""The graph of image pairs, made of the graph of single images: the other face of the same weights.

torch exports what a previous image changes (`PreviousImageGraph`) as a graph of its own, whose weights lie in one file
for all precisions. It is put into the graph of single images in whatever precision that is: both images are its batch,
and what follows the patches is computed of the current ones, with one more term. fp16 is the exception: there the
transformer computes in half precision too, so that the fp32 graph of pairs is converted, and what is the same as in the
graph of single images is read from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.errors import GraphError
from export.graphs.graph import GraphInfo, GraphSpec, check_graph, export_graph, face_of, save_weights_apart
from export.graphs.image_pairs import PreviousImageGraph
from export.graphs.packing import rename, two_transposes, write_face
from export.graphs.sharing import data_files, share_weights
from runtime.bundle import PAIR, Artifact

__all__ = [
    "PAIR_INPUTS",
    "Comparison",
    "export_comparison",
    "pair_artifact",
    "pair_file",
    "pair_spec",
    "share_with_single",
    "write_pair_graph",
]

PAIR_INPUTS = ("pixel_values", "previous_pixel_values")
_DATA = "pair.onnx_data"
# Of the tensors and nodes that are added, which would otherwise be named as those that are there.
_PREFIX = "pair:"
_PATCHES, _CURRENT, _CHANGE = "patches", "current", "change"


@dataclass(frozen=True)
class Comparison:
    """What a previous image changes: the graph, with references to its weights, and the shape of an image's patches.

    Attributes:
        shape: channels, rows and columns.
    """

    graph: onnx.GraphProto
    shape: tuple[int, int, int]


def pair_spec(single: GraphSpec, external_data: str = _DATA) -> GraphSpec:
    """Names and axes of the graph of pairs, by those of the graph of single images."""
    (axes,) = single.inputs.values()
    return replace(single, inputs=dict.fromkeys(PAIR_INPUTS, axes), external_data=external_data)


def pair_file(file: str) -> str:
    """Name of the graph of pairs: model_int8.onnx → pair_int8.onnx."""
    path = PurePosixPath(file)
    return path.with_name(f"pair{path.name.removeprefix('model')}").as_posix()


def export_comparison(model: nn.Module, grid: int, folder: Path) -> Comparison:
    """Write the weights of what compares images, and its graph to be put into others.

    Args:
        model: hi-ml's `MultiImageModel`.
        grid: patches per side.
        folder: where to write them.

    Raises:
        GraphError: the model has another shape.
    """
    module = PreviousImageGraph(model).eval().requires_grad_(False)
    width, channels = module.projection.in_features, module.projection.out_features
    spec = GraphSpec(
        inputs={_PATCHES: (2, "batch", width, grid, grid)},
        outputs={_CURRENT: ("batch", width, grid, grid), _CHANGE: ("batch", channels, grid, grid)},
        limits={"batch": None},
        external_data=_DATA,
    )
    path = folder / ".pair.onnx"
    export_graph(module, (torch.rand(2, 3, width, grid, grid),), spec, path)
    graph = onnx.load(str(path), load_external_data=False).graph
    path.unlink()
    turned = list(two_transposes(graph))
    del graph.node[:]
    graph.node.extend(turned)
    outer = {name: _PREFIX + name for node in graph.node for name in (*node.input, *node.output) if name}
    rename(graph, outer)
    for tensor in graph.initializer:
        tensor.name = _PREFIX + tensor.name
    for node in graph.node:
        node.name = f"{node.output[0]}:{node.op_type}"
    return Comparison(graph, (width, grid, grid))


def write_pair_graph(source: Path, target: Path, comparison: Comparison, spec: GraphSpec) -> GraphInfo:
    """Write the graph of pairs of a graph of single images.

    Args:
        source: the graph of single images, fp32 or int8, with its weights beside it.
        target: the .onnx file to write, in the same folder.
        comparison: its weights are in the same folder.
        spec: see `pair_spec`.

    Raises:
        GraphError: the source is no such graph, or the result not the graph that was asked for.
    """
    model = onnx.load(str(source), load_external_data=False)
    graph = model.graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    if len(convolutions) < 3:
        raise GraphError(f"{source.name} has {len(convolutions)} convolutions; that of an image model is expected.")
    reduced, first, _ = convolutions[-3:]
    unchanged = f"{_PREFIX}unchanged"
    (patches,), (changed,) = reduced.output, first.output
    nodes = []
    for node in graph.node:
        # What follows reads the current images' patches alone.
        node.input[:] = [f"{_PREFIX}{_CURRENT}" if name == patches else name for name in node.input]
        nodes.append(node)
        if node is reduced:
            nodes.append(
                helper.make_node("Reshape", [patches, f"{_PREFIX}shape"], [f"{_PREFIX}{_PATCHES}"], f"{_PREFIX}split")
            )
            nodes += comparison.graph.node
        elif node is first:
            node.output[:] = [unchanged]
            nodes.append(helper.make_node("Add", [unchanged, f"{_PREFIX}{_CHANGE}"], [changed], f"{changed}:change"))
    graph.initializer.append(numpy_helper.from_array(np.array([2, -1, *comparison.shape]), f"{_PREFIX}shape"))
    graph.initializer.extend(comparison.graph.initializer)
    return write_face(model, list(_side_by_side(nodes)), target, spec, TensorProto.UINT8)


def share_with_single(pair: Path, single: Path, spec: GraphSpec) -> GraphInfo:
    """Let a graph of pairs read from that of single images what is the same in both.

    Args:
        pair: with all its weights in `<pair>_data`, where the others stay.
        single: in the same folder.
        spec: see `pair_spec`.

    Raises:
        GraphError: the result is not the graph that was asked for.
    """
    model = onnx.load(str(pair))
    data = f"{pair.name}_data"
    pair.with_name(data).unlink()
    share_weights(model.graph, single)
    save_weights_apart(model, pair, data)
    return check_graph(pair, spec)


def pair_artifact(single: Artifact, bundle: Path, info: GraphInfo) -> Artifact:
    """Describe the graph of pairs that was written beside a graph of single images, to `pair_file`."""
    path = PurePosixPath(pair_file(single.file))
    model = onnx.load(str(bundle / path), load_external_data=False)
    weights = tuple(path.with_name(name).as_posix() for name in data_files(model))
    return replace(face_of(single, PAIR, path.as_posix(), info, external_data=weights), recipe=single.recipe)


def _side_by_side(nodes: list[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, with both images as their batch.

    They are joined as what the first node makes of them where that is a cast: TensorRT takes uint8 for nothing else.
    What asks for the size of the batch is about the embeddings: it goes on asking the current images.
    """
    single, previous = PAIR_INPUTS
    for node in nodes:
        if single not in node.input or node.op_type == "Shape":
            yield node
            continue
        both = f"{_PREFIX}both"
        if node.op_type == "Cast":
            (target,) = node.output
            made = [f"{both}:{name}" for name in PAIR_INPUTS]
            for name, each in zip(PAIR_INPUTS, made, strict=True):
                cast = onnx.NodeProto()
                cast.CopyFrom(node)
                cast.name, cast.input[:], cast.output[:] = f"{each}:cast", [name], [each]
                yield cast
            yield helper.make_node("Concat", made, [target], both, axis=0)
        else:
            yield helper.make_node("Concat", [single, previous], [both], f"{both}:concat", axis=0)
            node.input[:] = [both if name == single else name for name in node.input]
            yield node
