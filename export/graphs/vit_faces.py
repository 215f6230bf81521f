"""The faces of a vision transformer's graph, which read the same weights: a picture's embedding, and its patches' too.

torch exports a graph whose `token_positions` say which tokens the last layer is computed for. Of that the face that
embeds pictures is made, and of it, in any precision, the one that embeds patches as well, and the other way round: the
last layer takes the first so many tokens, a number that stands in the graph as a constant, and behind the tokens'
embeddings come the heads.

What is measured of activations in the first face knows the class token alone in the last layer. Static int8 is better
made of the second and the first of that: of two small models with random weights, the worst cosine of a patch rose from
0.961 to 0.992 and from 0.959 to 0.997, while that of pictures went from 0.9984 to 0.9986 and from 0.9886 to 0.9855.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from export.errors import GraphError
from export.graphs.graph import GraphInfo, GraphSpec, export_graph, face_of
from export.graphs.packing import keep_needed, two_transposes, write_face
from export.graphs.vit import VitGraph, VitReference
from runtime.bundle import PATCHES, Artifact

__all__ = ["all_tokens_graph", "embedding_spec", "export_vit", "patches_artifact", "patches_spec", "write_vit_face"]

_PIXELS, _POSITIONS, _TOKENS = "pixel_values", "token_positions", "token_embeds"
_IMAGE, _PATCHES = "image_embeds", "patch_embeds"
# How many tokens the last layer is computed for: the class token, or all.
_COUNT, _ONE, _ALL = "tokens:count", 1, np.iinfo(np.int64).max
_START, _AXIS = "tokens:start", "tokens:axis"


def embedding_spec(size: int, shape: tuple[int, ...], external_data: str = "model.onnx_data") -> GraphSpec:
    """Names and axes of the graph that embeds pictures.

    Args:
        size: length of an embedding.
        shape: of one picture's pixels; see `Preprocessing.shape`.
        external_data: file name for the weights.
    """
    return GraphSpec({_PIXELS: ("batch", *shape)}, {_IMAGE: ("batch", size)}, {"batch": None}, external_data)


def patches_spec(size: int, shape: tuple[int, ...], grid: int, external_data: str = "model.onnx_data") -> GraphSpec:
    """Names and axes of the graph that embeds patches as well; `grid` is the number of patches per side."""
    spec = embedding_spec(size, shape, external_data)
    return replace(spec, outputs={**spec.outputs, _PATCHES: ("batch", grid, grid, size)})


def export_vit(reference: VitReference, path: Path, spec: GraphSpec) -> GraphInfo:
    """Export the graph of a vision transformer, with its weights in an external file, and check the result.

    Args:
        reference: its model and the rule of its pictures.
        path: the .onnx file to write; the weights go beside it.
        spec: of the face to write; see `embedding_spec` and `patches_spec`.

    Raises:
        GraphError: a model that is not known, or the result is not the graph that was asked for.
    """
    module = VitGraph(reference).eval().requires_grad_(False)
    pixels = torch.randint(0, 256, (2, *spec.inputs[_PIXELS][1:]), dtype=torch.uint8)
    (size,) = {axes[-1] for axes in spec.outputs.values()}
    exported = GraphSpec(
        {**spec.inputs, _POSITIONS: ("tokens",)},
        {_TOKENS: ("batch", "tokens", size)},
        {"batch": None, "tokens": None},
        spec.external_data,
    )
    source = path.with_name(f".{path.stem}.tokens.onnx")
    export_graph(module, (pixels, torch.arange(3)), exported, source)
    info = write_vit_face(source, path, spec)
    source.unlink()
    return info


def write_vit_face(source: Path, target: Path, spec: GraphSpec) -> GraphInfo:
    """Write one face of a graph.

    Args:
        source: another face, or what torch exported, in any precision; its weights lie beside it.
        target: the .onnx file to write, in the same folder; it refers to the same weights.
        spec: see `embedding_spec` and `patches_spec`.

    Raises:
        GraphError: the source is no such graph, or the result is not the graph that was asked for.
    """
    model = onnx.load(str(source), load_external_data=False)
    graph = model.graph
    keep_needed(graph, [_TOKENS], (_IMAGE, _PATCHES))
    patches = _PATCHES in spec.outputs
    _take_tokens(graph, _ALL if patches else _ONE)
    heads = [helper.make_node("Gather", [_TOKENS, "image:token"], [_IMAGE], axis=1)]
    graph.initializer.append(_integers("image:token", 0))
    if patches:
        _, rows, columns, size = spec.outputs[_PATCHES]
        assert isinstance(rows, int)
        assert isinstance(columns, int)
        assert isinstance(size, int)
        constants = {"start": [1], "end": [_ALL], "axis": [1], "grid": [0, rows, columns, size]}
        graph.initializer.extend(_integers(f"patch:{name}", value) for name, value in constants.items())
        heads += [
            helper.make_node("Slice", [_TOKENS, "patch:start", "patch:end", "patch:axis"], ["patch:tokens"]),
            helper.make_node("Reshape", ["patch:tokens", "patch:grid"], [_PATCHES]),
        ]
    return write_face(model, [*two_transposes(graph), *heads], target, spec, TensorProto.UINT8)


def all_tokens_graph(source: Path) -> onnx.ModelProto:
    """A copy of a face, its weights not loaded, that computes the last layer for all tokens; its outputs are the same.

    Raises:
        GraphError: the source is no such graph.
    """
    model = onnx.load(str(source), load_external_data=False)
    _take_tokens(model.graph, _ALL)
    return model


def patches_artifact(artifact: Artifact, bundle: Path, spec: GraphSpec) -> Artifact:
    """Write the graph that embeds patches as well beside one that embeds pictures, and describe it.

    Args:
        artifact: a vision transformer's, of any precision.
        bundle: the folder that its files are named from.
        spec: see `patches_spec`.

    Raises:
        GraphError: see `write_vit_face`.
    """
    path = PurePosixPath(artifact.file)
    file = path.with_name(f"{path.stem}_patches.onnx").as_posix()
    info = write_vit_face(bundle / artifact.file, bundle / file, spec)
    return face_of(artifact, PATCHES, file, info)


def _take_tokens(graph: onnx.GraphProto, count: int) -> None:
    """Let the last layer be computed for the first `count` tokens."""
    _fix_positions(graph)
    if not any(_COUNT in node.input for node in graph.node):
        raise GraphError("The graph's last layer does not say for which tokens it is computed.")
    others = [tensor for tensor in graph.initializer if tensor.name != _COUNT]
    del graph.initializer[:]
    graph.initializer.extend([*others, _integers(_COUNT, [count])])


def _fix_positions(graph: onnx.GraphProto) -> None:
    """Turn what reads the `token_positions` of an exported graph into what goes by their number, a constant.

    A Gather becomes a Slice, since engines drop one that takes everything; and where shapes have the number of tokens
    in them, Reshape finds it out.
    """
    names, nodes = {_POSITIONS}, []
    for node in graph.node:
        if not names.intersection(node.input):
            nodes.append(node)
        elif node.op_type == "Reshape":  # to one axis, which it has
            names.update(node.output)
        elif node.op_type == "Shape":
            graph.initializer.append(_integers(node.output[0], [-1]))
        elif node.op_type == "Gather":
            nodes.append(helper.make_node("Slice", [node.input[0], _START, _COUNT, _AXIS], node.output))
        else:
            raise GraphError(f"A {node.op_type} reads {_POSITIONS}; Gather, Reshape and Shape are expected.")
    if len(nodes) < len(graph.node):
        graph.initializer.extend([_integers(_START, [0]), _integers(_AXIS, [-2])])
    del graph.node[:]
    graph.node.extend(nodes)


def _integers(name: str, values: int | list[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)
