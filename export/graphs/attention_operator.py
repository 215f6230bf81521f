"""A text graph whose attention is ONNX's own `Attention` operator, with one product for queries, keys and values.

What engines fuse by looking for its parts is said outright here: engines for GPUs then compute attention in one kernel
that never writes the scores. FlashAttention takes no mask, so padding, which stands on the right, is told by the number
of tokens in each row (`nonpad_kv_seqlen`, opset 24). Same inputs and outputs as the plain graph it is made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.errors import GraphError
from export.graphs.graph import GraphInfo, GraphSpec, check_graph, save_weights_apart
from export.graphs.packing import keep_needed

__all__ = ["ATTENTION_OPSET", "attention_graph"]

# The first that has `nonpad_kv_seqlen`. No operator of the graphs here means something else there than in opset 18.
ATTENTION_OPSET = 24
_LENGTHS, _AXIS = "attention:lengths", "attention:axis"
# Of the operator's inputs after query, key and value: no mask, no past keys, no past values.
_LEFT_OUT = ("", "", "")


@dataclass(frozen=True)
class _Block:
    """One layer's attention: names of its tensors, (batch, places, D) each."""

    query: str
    key: str
    value: str
    context: str


def attention_graph(source: Path, target: Path, spec: GraphSpec, heads: int) -> GraphInfo:
    """Write the graph.

    Args:
        source: a plain fp32 text graph of a bidirectional encoder, with its weights beside it.
        target: the .onnx file to write, with weights of its own beside it (`<stem>.onnx_data`).
        spec: see `export.graphs.packing.plain_spec`.
        heads: of each layer.

    Raises:
        GraphError: a layer's attention is not as `export.graphs.text_rewrites` writes it, or the result is not the
            graph that was asked for.
    """
    model = onnx.load(str(source))
    graph = model.graph
    weights = {each.name: each for each in graph.initializer}
    blocks = [_block(graph, node) for node in graph.node if node.op_type == "Softmax"]
    if not blocks:
        raise GraphError(f"{source.name} has no attention.")
    by_context = {block.context: block for block in blocks}
    merged = dict(_merged(graph, weights, blocks))
    known = {each.name for each in graph.initializer}
    graph.initializer.extend(each for name, each in weights.items() if name not in known)
    graph.initializer.append(numpy_helper.from_array(np.array([1]), _AXIS))
    nodes = [helper.make_node("ReduceSum", ["attention_mask", _AXIS], [_LENGTHS], keepdims=0)]
    for node in graph.node:
        block = by_context.get(node.output[0])
        if block is not None:
            inputs = [block.query, block.key, block.value, *_LEFT_OUT, _LENGTHS]
            nodes.append(
                # The scale is in the queries already.
                helper.make_node("Attention", inputs, [block.context], q_num_heads=heads, kv_num_heads=heads, scale=1.0)
            )
        else:
            nodes += merged.get(node.output[0], [node])
    del graph.node[:]
    graph.node.extend(nodes)
    keep_needed(graph, list(spec.outputs), set(spec.inputs))
    del graph.value_info[:]
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", ATTENTION_OPSET))
    model.ir_version = max(model.ir_version, helper.find_min_ir_version_for(model.opset_import))
    target.with_name(f"{target.stem}.onnx_data").unlink(missing_ok=True)
    save_weights_apart(model, target, f"{target.stem}.onnx_data")
    return check_graph(target, spec)


def _block(graph: onnx.GraphProto, softmax: onnx.NodeProto) -> _Block:
    """The attention around a softmax: heads are split by Reshape and Transpose, and joined the same way."""
    writers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def back(name: str, *kinds: str) -> onnx.NodeProto:
        node = writers.get(name)
        if node is None or node.op_type not in kinds:
            found = "an input" if node is None else node.op_type
            raise GraphError(f"attention at {softmax.output[0]}: {' or '.join(kinds)} is expected, {found} came.")
        return node

    def split(name: str) -> str:
        """The tensor whose heads were split."""
        node = back(name, "Transpose")
        while node.op_type == "Transpose":
            node = back(node.input[0], "Transpose", "Reshape")
        return str(node.input[0])

    def only(name: str, kind: str) -> onnx.NodeProto:
        found = readers.get(name, [])
        if len(found) != 1 or found[0].op_type != kind:
            raise GraphError(f"attention at {softmax.output[0]}: one {kind} is expected to read {name}.")
        return found[0]

    scores = back(back(softmax.input[0], "Add").input[0], "MatMul")
    weighted = only(softmax.output[0], "MatMul")
    joined = only(only(weighted.output[0], "Transpose").output[0], "Reshape")
    return _Block(
        split(scores.input[0]),
        split(scores.input[1]),
        split(weighted.input[1]),
        joined.output[0],
    )


def _merged(
    graph: onnx.GraphProto, weights: dict[str, onnx.TensorProto], blocks: list[_Block]
) -> Iterator[tuple[str, list[onnx.NodeProto]]]:
    """Products that read the same states → one product and a split of it; in the last layer [CLS] alone is asked about,
    so that keys and values are two.

    Yields:
        The name of a tensor that a layer's first product gave, and the nodes in its writer's place. What the others
        wrote is written by them too; names of weights that are new are added to `weights`.
    """
    writers = {name: node for node in graph.node for name in node.output}
    for number, block in enumerate(blocks):
        groups: dict[str, list[str]] = {}
        for name in (block.query, block.key, block.value):
            groups.setdefault(writers[_product(writers, weights, name)].input[0], []).append(name)
        for states, names in groups.items():
            if len(names) == 1:
                continue
            kernel, bias = f"attention:{number}:kernel", f"attention:{number}:bias"
            products = [writers[_product(writers, weights, name)] for name in names]
            kernels = [numpy_helper.to_array(weights[each.input[1]]) for each in products]
            biases = [numpy_helper.to_array(weights[_bias(weights, writers[name])]) for name in names]
            weights[kernel] = numpy_helper.from_array(np.concatenate(kernels, axis=1), kernel)
            weights[bias] = numpy_helper.from_array(np.concatenate(biases), bias)
            product, added = f"attention:{number}:product", f"attention:{number}:added"
            yield (
                names[0],
                [
                    helper.make_node("MatMul", [states, kernel], [product]),
                    helper.make_node("Add", [product, bias], [added]),
                    helper.make_node("Split", [added], names, axis=-1, num_outputs=len(names)),
                ],
            )
            for name in names[1:]:
                yield name, []


def _bias(weights: dict[str, onnx.TensorProto], added: onnx.NodeProto) -> str:
    found = [str(name) for name in added.input if name in weights]
    if added.op_type != "Add" or len(found) != 1:
        raise GraphError(f"{added.output[0]}: a product with a bias is expected, {added.op_type} came.")
    return found[0]


def _product(writers: dict[str, onnx.NodeProto], weights: dict[str, onnx.TensorProto], name: str) -> str:
    """The product below the bias that a tensor was added to."""
    added = writers[name]
    bias = _bias(weights, added)
    (product,) = (each for each in added.input if each != bias)
    node = writers.get(product)
    if node is None or node.op_type != "MatMul" or node.input[1] not in weights:
        raise GraphError(f"{name}: a product with a weight is expected below its bias.")
    return str(product)
