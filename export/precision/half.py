"""fp32 → fp16 or bf16, for GPUs: which nodes compute in half precision, with the fewest casts around them.

Matrix products, convolutions, ONNX's `Attention` and whatever reads a weight matrix compute in half precision.
Normalizations, softmax and reductions stay in float32, and so does what half precision cannot hold: constants outside
its range (the masks of many models, the epsilon of a norm) and activations that were seen to leave it
(`find_overflowing`). Every other node could be either. A minimum cut through the graph places them with as few Cast
nodes as possible and, among such placements, with the most float32. In BERT that adds the mask to the scores and
carries residuals in float32, for one cast up and one down per softmax and normalization.

Not ONNX Runtime's `transformers.float16`: it knows no bf16, changes constants that do not fit (1e-12 to 6e-8), takes
136 Cast nodes for BERT-base where 78 do, and writes them behind their readers, which onnx.checker refuses.
Nor is `stash_type` of LayerNormalization enough, which promises float32 inside for half-precision inputs: ONNX Runtime
fuses the addition before it, and its CUDA kernel for that summed squares in fp16 until its pull request #28682. For
engines past that, `convert_half` can be told to trust the promise: residuals are then in half precision as well, and
one kernel computes an addition with the norm after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import networkx
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import LiftConstantsToInitializersPass, ShapeInferencePass

from export.errors import GraphError
from export.graphs import GraphInfo, GraphSpec, check_graph
from export.graphs.watch import opened_beside
from runtime.engines import Provider

__all__ = ["FP16_LIMIT", "HALF_PRECISIONS", "convert_half", "find_overflowing"]

HALF_PRECISIONS: Mapping[str, ir.DataType] = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
# Half of the largest float16: room for inputs that were not measured.
FP16_LIMIT = 32752.0
# Weights from this size on go to the external file, as in `export.graphs.graph`.
_EXTERNAL_BYTES = 1024
_HALF_OPERATORS = frozenset({"Attention", "Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
# They sum over many elements or stretch small differences. Operators named Reduce… belong here as well.
_FLOAT32_OPERATORS = frozenset(
    {
        *("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"),
        *("LpNormalization", "LogSoftmax", "Softmax", "CumSum", "Exp", "GlobalAveragePool", "Log", "Pow", "Sqrt"),
    }
)
# The two sides of the cut.
_FLOAT32, _HALF = "float32", "half"


def convert_half(
    source: Path,
    target: Path,
    spec: GraphSpec,
    precision: str,
    keep: Collection[str] = (),
    *,
    half_residuals: bool = False,
) -> GraphInfo:
    """Convert an fp32 graph to half precision; inputs and outputs keep their names, axes and types.

    Args:
        source: the fp32 graph, as written by `export_graph`.
        target: the .onnx file to write; the weights go beside it, to `<stem>.onnx_data`.
        spec: names and axes, the same as the source's.
        precision: "fp16" or "bf16".
        keep: names of tensors to keep in float32, with the nodes that write and read them (see `find_overflowing`).
        half_residuals: norms read and write half precision, and so do the additions between them, where their sums are
            float32 by ONNX's own promise (`stash_type`).

    Raises:
        GraphError: an unknown precision or tensor, a graph with branches, nothing that can be converted, or a result
            that fails `check_graph`.
    """
    if precision not in HALF_PRECISIONS:
        raise GraphError(f"There is no half precision '{precision}'; there are: {', '.join(HALF_PRECISIONS)}.")
    if target.resolve() == source.resolve():
        raise GraphError(f"{target} is the graph to convert; name another file to write.")
    half = HALF_PRECISIONS[precision]
    model = _load(source)
    if unknown := sorted(set(keep) - {value.name for value in _floats(model.graph)}):
        raise GraphError(f"{source.name} has no float32 tensors {', '.join(unknown)} to keep.")
    halved = _choose_half(model, half, keep, half_residuals)
    if not halved:
        raise GraphError(f"{source.name}: no operator to convert takes {precision} (Conv takes bf16 from opset 22).")
    _convert_initializers(model.graph, halved, half, precision)
    _convert_nodes(model.graph, halved, half, precision)
    ir.save(model, target, external_data=f"{target.stem}.onnx_data", size_threshold_bytes=_EXTERNAL_BYTES)
    return check_graph(target, spec)


def find_overflowing(
    source: Path, feeds: Iterable[Mapping[str, NDArray[Any]]], engine: Provider, limit: float = FP16_LIMIT
) -> dict[str, float]:
    """Find the tensors of an fp32 graph that leave fp16's range on real inputs.

    Args:
        source: the fp32 graph; a copy without weights is written beside it and removed.
        feeds: inputs by name; the more varied, the better. Trained networks have outliers that random ones lack.
        engine: what runs the copy, in float32.
        limit: largest magnitude that is let through.

    Returns:
        Name of the tensor → largest magnitude seen. Pass it to `convert_half` as `keep`.

    Raises:
        ProviderError: the engine cannot open the graph.
    """
    graph = (model := _load(source)).graph
    values = _floats(graph)
    outputs = [f"largest_{index}" for index in range(len(values))]
    for value, output in zip(values, outputs, strict=True):
        magnitude = ir.node("Abs", [value])
        largest = ir.val(output, ir.DataType.FLOAT, [])
        graph.extend([magnitude, ir.node("ReduceMax", magnitude.outputs, {"keepdims": 0}, outputs=[largest])])
        graph.outputs.append(largest)
    seen = np.zeros(len(values), np.float32)
    with opened_beside(source, ir.to_proto(model), engine) as session:
        for feed in feeds:
            seen = np.maximum(seen, np.array(session.run(outputs, feed), np.float32).reshape(-1))
    # Written so that NaN counts as too large.
    return {str(v.name): float(size) for v, size in zip(values, seen, strict=True) if not size <= limit}


def _load(source: Path) -> ir.Model:
    model = ir.load(source)
    if any(model.graph.subgraphs()):
        raise GraphError(f"{source.name} has branches or loops, which the conversion to half precision does not know.")
    LiftConstantsToInitializersPass(lift_all_constants=True)(model)
    ShapeInferencePass()(model)
    return model


def _choose_half(model: ir.Model, half: ir.DataType, keep: Collection[str], half_residuals: bool) -> set[ir.Node]:
    """The nodes to convert: the half side of the cut with the fewest casts, empty if no node needs to be there.

    In networkx an edge without capacity cannot be cut; an edge from the float32 side to the half side costs its
    capacity, the other direction nothing.
    """
    graph = model.graph
    network = networkx.DiGraph()
    one_cast = graph.num_nodes() + 1
    for node in graph:
        promised = half_residuals and _sums_in_float32(node)
        if _must_stay(node, half, model.opset_imports[""], keep, promised):
            network.add_edge(_FLOAT32, node)
        elif promised or node.op_type in _HALF_OPERATORS or any(array.ndim > 1 for array in _constants(node)):
            network.add_edge(node, _HALF)
        else:
            # Less than a cast for all nodes together: it only decides between cuts with equally many casts.
            network.add_edge(_FLOAT32, node, capacity=1)
    if _HALF not in network:
        return set()
    for value in _floats(graph):
        writer = value.producer() or _FLOAT32
        # One cast serves all readers of the other type.
        up, down = ("up", value), ("down", value)
        network.add_edge(up, writer, capacity=one_cast)
        network.add_edge(writer, down, capacity=one_cast)
        for reader in [*value.consumers(), *([_FLOAT32] if value.is_graph_output() else [])]:
            network.add_edge(reader, up)
            network.add_edge(down, reader)
    _, (_, half_side) = networkx.minimum_cut(network, _FLOAT32, _HALF)
    return {node for node in graph if node in half_side}


def _sums_in_float32(node: ir.Node) -> bool:
    """A norm that the standard has compute in float32 whatever it reads."""
    stash = node.attributes.get("stash_type")
    return node.op_type == "LayerNormalization" and (stash is None or stash.as_int() == int(ir.DataType.FLOAT))


def _must_stay(node: ir.Node, half: ir.DataType, opset: int, keep: Collection[str], promised: bool) -> bool:
    if not promised and (node.op_type in _FLOAT32_OPERATORS or node.op_type.startswith("Reduce")):
        return True
    if any(value is not None and value.name in keep for value in (*node.inputs, *node.outputs)):
        return True
    return not (all(_fits(array, half) for array in _constants(node)) and _accepts(node, half, opset))


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _floats(graph: ir.Graph) -> list[ir.Value]:
    """The float32 tensors that flow: inputs and what nodes write."""
    return [v for v in (*graph.inputs, *(v for node in graph for v in node.outputs)) if _is_float(v)]


def _constants(node: ir.Node) -> list[NDArray[np.float32]]:
    return [value.const_value.numpy() for value in node.inputs if _is_float(value) and value.const_value is not None]


def _fits(array: NDArray[np.float32], half: ir.DataType) -> bool:
    """Whether a constant keeps its meaning: nothing overflows, and it is not all below the smallest normal number.

    Single small elements of a weight may vanish beside larger ones; a divisor or an epsilon may not. Infinities stay.
    """
    limits = ml_dtypes.finfo(half.numpy())
    largest = float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
    return largest == 0.0 or float(limits.smallest_normal) <= largest <= float(limits.max)


def _accepts(node: ir.Node, half: ir.DataType, opset: int) -> bool:
    """Whether the standard allows half precision wherever the node has float32."""
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    allowed = {constraint.type_param_str: constraint.allowed_type_strs for constraint in schema.type_constraints}
    name = f"tensor({half.name.lower()})"
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for index, value in enumerate(values):
            formal = formals[min(index, len(formals) - 1)]  # the last one may be variadic
            if _is_float(value) and name not in allowed.get(formal.type_str, ()):
                return False
    return True


def _convert_initializers(graph: ir.Graph, halved: set[ir.Node], half: ir.DataType, suffix: str) -> None:
    for value in list(graph.initializers.values()):
        uses = [use for use in value.uses() if use.node in halved]
        if not _is_float(value) or not uses:
            continue
        shared = len(uses) < len(value.uses())  # with nodes that stay float32
        converted = ir.Value(name=f"{value.name}_{suffix}", shape=value.shape) if shared else value
        tensor = value.const_value.numpy().astype(half.numpy())
        converted.const_value = ir.Tensor(tensor, dtype=half, name=converted.name)
        converted.type = ir.TensorType(half)
        graph.register_initializer(converted)
        for use in uses:
            use.node.replace_input_with(use.idx, converted)


def _convert_nodes(graph: ir.Graph, halved: set[ir.Node], half: ir.DataType, suffix: str) -> None:
    """Type the outputs of the chosen nodes, and put a Cast where a reader is of the other type."""
    for value in _floats(graph):
        writer = value.producer()
        is_half = writer in halved
        if is_half:
            value.type = ir.TensorType(half)
            if writer.op_type == "Cast":  # of the source, such as that of the pixels
                writer.attributes["to"] = ir.AttrInt64("to", int(half))
        others = [use for use in value.uses() if (use.node in halved) != is_half]
        is_output = is_half and value.is_graph_output()
        if not (others or is_output):
            continue
        to, name = (ir.DataType.FLOAT, "float32") if is_half else (half, suffix)
        cast = ir.node("Cast", [value], {"to": int(to)}, name=f"{value.name}_to_{name}")
        result = cast.outputs[0]
        result.name, result.shape, result.type = f"{value.name}_{name}", value.shape, ir.TensorType(to)
        if writer:
            graph.insert_after(writer, cast)
        else:
            graph.insert_before(graph[0], cast)
        for use in others:
            use.node.replace_input_with(use.idx, result)
        if is_output:  # the float32 tensor takes its name
            value.name, result.name = f"{value.name}_{suffix}", value.name
            graph.outputs[:] = [result if output is value else output for output in graph.outputs]
