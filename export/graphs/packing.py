"""The faces of a text graph, which read the same weights: several texts a row, and a text a row.

torch exports the packed graph, which fills its rows with texts. The plain graph (`input_ids`, `attention_mask`) is what
other tools expect; it is the packed one with nodes before it that number the positions and point at each row's first
or last token, and nodes after it that drop the axis of texts. Precisions are lowered on the plain graph; without these
ends the result is packed again. It gives the embedding once more under the name that other tools look for, see
`plain_spec`. The third face, with the masked-language head, is export.graphs.fill_mask's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graphs.graph import GraphInfo, GraphSpec, check_graph, face_of
from runtime.bundle import PACKED, Artifact
from runtime.engines import PROVIDERS
from runtime.text.packing import widest_row

__all__ = [
    "LAST_HIDDEN_STATE",
    "PACKED_INPUTS",
    "PLAIN_INPUTS",
    "POOLED_STATES",
    "exported_spec",
    "keep_needed",
    "pack_artifact",
    "pack_graph",
    "packed_spec",
    "plain_graph",
    "plain_spec",
    "rename",
    "text_a_row",
    "two_transposes",
    "write_face",
]

# What the heads read: the one tensor inside all text graphs that has a name of its own.
LAST_HIDDEN_STATE = "last_hidden_state"
_OUTPUTS = ("text_embeds", "unnormalized_embeds")
# Names of the packed graph's outputs while they are not outputs, and of what its heads read.
_INNER = {name: f"packed_{name}" for name in (*_OUTPUTS, LAST_HIDDEN_STATE)}
# Those states in plain graphs.
POOLED_STATES = _INNER[LAST_HIDDEN_STATE]
PACKED_INPUTS = ("input_ids", "position_ids", "segment_ids", "text_positions")
PLAIN_INPUTS = ("input_ids", "attention_mask")
_ZERO, _ONE = "plain:zero", "plain:one"
# Poolings that read one token's state, the first or the last of a text.
_AT_ONE_TOKEN = ("cls", "eos")
# (rows, width, heads, size) → (rows, heads, size, width), and its two steps.
_KEYS, _HEADS, _TURNED = (0, 2, 3, 1), (0, 2, 1, 3), (0, 1, 3, 2)


def packed_spec(size: int, longest: int, external_data: str) -> GraphSpec:
    """Names and axes of the packed graph: int64 inputs, float32 outputs (rows, texts, size)."""
    return GraphSpec(
        inputs={name: ("rows", "texts" if name == "text_positions" else "width") for name in PACKED_INPUTS},
        outputs=dict.fromkeys(_OUTPUTS, ("rows", "texts", size)),
        limits={"rows": None, "width": widest_row(longest), "texts": None},
        external_data=external_data,
    )


def exported_spec(size: int, longest: int, external_data: str, hidden_size: int, pooling: str) -> GraphSpec:
    """The packed graph as torch exports it: its last output is what the heads read, see `TextEmbeddingGraph.states`."""
    spec = packed_spec(size, longest, external_data)
    places = "texts" if pooling in _AT_ONE_TOKEN else "width"
    return replace(spec, outputs={**spec.outputs, LAST_HIDDEN_STATE: ("rows", places, hidden_size)})


def plain_spec(size: int, longest: int) -> GraphSpec:
    """Names and axes of the plain graph: int64 inputs, float32 outputs (batch, size).

    The last output is text_embeds again, as (batch, 1, size): optimum, and with it sentence-transformers, read nothing
    but `last_hidden_state`, and take its first token. What the encoder itself makes of [CLS] would be another embedding
    than the model's.
    """
    return GraphSpec(
        inputs=dict.fromkeys(PLAIN_INPUTS, ("batch", "sequence")),
        outputs={**dict.fromkeys(_OUTPUTS, ("batch", size)), LAST_HIDDEN_STATE: ("batch", 1, size)},
        limits={"batch": None, "sequence": longest},
    )


def plain_graph(source: Path, target: Path, spec: GraphSpec, pooling: str = "cls") -> GraphInfo:
    """Write the plain graph of a packed one.

    Args:
        source: the packed graph; its weights lie beside it.
        target: the .onnx file to write, in the same folder; it refers to the same weights.
        spec: see `plain_spec`.
        pooling: see `TextPart.pooling`; of "eos", each row's last token is pointed at, padding not counted, which
            stands on the right.

    Raises:
        GraphError: the result is not the graph that was asked for.
    """
    model = onnx.load(str(source), load_external_data=False)
    graph = model.graph
    rename(graph, _INNER)
    _constants(graph, {_ZERO: np.array([0]), _ONE: np.array([1])})
    before = [*text_a_row(graph), *(_last_tokens() if pooling == "eos" else _first_tokens())]
    after = [helper.make_node("Squeeze", [_INNER[name], _ONE], [name]) for name in _OUTPUTS]
    after.append(helper.make_node("Unsqueeze", [_OUTPUTS[0], _ONE], [LAST_HIDDEN_STATE]))
    return write_face(model, [*before, *two_transposes(graph), *after], target, spec)


def _first_tokens() -> list[onnx.NodeProto]:
    return [helper.make_node("Slice", ["position_ids", _ZERO, _ONE, _ONE], ["text_positions"])]


def _last_tokens() -> list[onnx.NodeProto]:
    return [
        helper.make_node("ReduceSum", ["attention_mask", _ONE], ["plain:lengths"], keepdims=1),
        helper.make_node("Sub", ["plain:lengths", _ONE], ["text_positions"]),
    ]


def text_a_row(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that make position_ids and segment_ids of a text a row; their constants are added to the graph."""
    _constants(graph, {"plain:0": np.int64(0), "plain:1": np.int64(1)})
    return [
        helper.make_node("Shape", ["input_ids"], ["plain:shape"]),
        helper.make_node("Gather", ["plain:shape", "plain:1"], ["plain:sequence"]),
        helper.make_node("Range", ["plain:0", "plain:sequence", "plain:1"], ["plain:range"]),
        helper.make_node("Expand", ["plain:range", "plain:shape"], ["position_ids"]),
        helper.make_node("Identity", ["attention_mask"], ["segment_ids"]),
    ]


def _constants(graph: onnx.GraphProto, values: Mapping[str, Any]) -> None:
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in values.items())


def pack_graph(source: Path, target: Path, spec: GraphSpec) -> GraphInfo:
    """Write the packed graph of a plain one: the inverse of `plain_graph`.

    Args:
        source: a plain text graph of any precision, with its weights beside it.
        target: the .onnx file to write, in the same folder; it refers to the source's weights.
        spec: see `packed_spec`.

    Raises:
        GraphError: the result is not the graph that was asked for.
    """
    model = onnx.load(str(source), load_external_data=False)
    keep_needed(model.graph, [_INNER[name] for name in _OUTPUTS], {*PACKED_INPUTS, *_OUTPUTS})
    rename(model.graph, {inner: name for name, inner in _INNER.items()})
    return write_face(model, list(model.graph.node), target, spec)


def keep_needed(graph: onnx.GraphProto, outputs: Collection[str], outer: Collection[str]) -> None:
    """Drop the nodes and weights that some tensors do not need, and the nodes that write the `outer` ones."""
    wanted, nodes = set(outputs), []
    for node in reversed(graph.node):
        if wanted.intersection(node.output) and not set(outer).intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    del graph.node[:]
    graph.node.extend(reversed(nodes))


def two_transposes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph with attention, with the transposition of the keys in two steps.

    OpenVINO takes the second into the product that follows and does the first in a quarter of the time that it takes
    for both at once (0.08 ms instead of 0.32 of a layer's 21.7); ONNX Runtime joins them again.
    """
    for node in graph.node:
        if node.op_type == "Transpose" and tuple(node.attribute[0].ints) == _KEYS:
            (source,), (target,) = node.input, node.output
            yield helper.make_node("Transpose", [source], [f"{target}:heads"], perm=_HEADS)
            yield helper.make_node("Transpose", [f"{target}:heads"], [target], perm=_TURNED)
        else:
            yield node


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give tensors between nodes other names."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def write_face(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], target: Path, spec: GraphSpec, kind: int = TensorProto.INT64
) -> GraphInfo:
    """Write some nodes with a model's weights, which stay where they are, and check the result.

    Args:
        model: whose weights they read, not loaded.
        nodes: of the graph, in order.
        target: the .onnx file to write, beside the weights.
        spec: names and axes; outputs are float32.
        kind: type of the inputs.

    Raises:
        GraphError: the result is not the graph that was asked for.
    """
    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(nodes)
    graph.initializer.extend(model.graph.initializer)
    for field, each, axes in ((graph.input, kind, spec.inputs), (graph.output, TensorProto.FLOAT, spec.outputs)):
        field.extend(helper.make_tensor_value_info(name, each, list(shape)) for name, shape in axes.items())
    written = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.save(written, str(target))
    return check_graph(target, spec)


def pack_artifact(artifact: Artifact, bundle: Path, spec: GraphSpec) -> Artifact:
    """Write the packed graph beside a plain artifact and describe it.

    Args:
        artifact: a plain text artifact.
        bundle: the folder that its files are named from.
        spec: see `packed_spec`.

    Raises:
        GraphError: see `pack_graph`.
    """
    path = PurePosixPath(artifact.file)
    file = path.with_name(f"{path.stem}_packed.onnx").as_posix()
    info = pack_graph(bundle / artifact.file, bundle / file, spec)
    packing = tuple(name for name in artifact.providers if PROVIDERS[name].packs)
    return face_of(artifact, PACKED, file, info, providers=packing)
