"""A text encoder in int8: which matrix products are quantized, with which ranges, and how that is written in ONNX.

Three forms:

* "static": QDQ; activations as uint8 with ranges from the calibration. Fast on every processor.
* "tensorrt": the same with symmetric int8 activations, zero points 0, as TensorRT wants them.
* "blocks": int8 weights with a scale per 64 inputs and output; ONNX Runtime and OpenVINO then quantize activations at
  run time, per token and block.

Not DynamicQuantizeLinear with MatMulInteger, which ONNX Runtime runs as fast as the static form: one range for a whole
batch, padding included, gives a mean cosine of 0.9954 where "blocks" gives 0.9997 (MiniLM, held-out notes).

NNCF's post-training quantization was measured beside it (MiniLM on held-out notes, same engine and speed): mean cosine
0.9978 against 0.9993. What makes the difference is the rounding (`export.rounding`) and the outlier channels; it also
writes one quantizer for query, key and value instead of three.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.errors import GraphError
from export.graph import GraphInfo, GraphSpec, check_graph
from export.rounding import int8_scales, round_to_nearest, round_weights
from export.statistics import TensorStatistics

__all__ = ["FORMS", "Group", "GroupPlan", "TextQuantizer", "find_groups"]

FORMS = ("static", "tensorrt", "blocks")

# Inputs that share a weight scale in the form "blocks", best first: those that ONNX Runtime has kernels for.
_BLOCKS = (64, 32, 16)
# The first opset with scales per block.
_BLOCKS_OPSET = 21

# Weights from this size on go to the external file, as in export.graph.
_EXTERNAL_BYTES = 1024
_LEAST_RANGE = 1e-5
_KINDS = ("int8", "scale", "zero")


@dataclass(frozen=True)
class Group:
    """Matrix products with constant weights that read the same tensor, so that it is quantized once.

    Attributes:
        tensor: name of what they read.
        weights: names of the weights (inputs, outputs): query, key and value of a layer, or a single one.
        shape: inputs, and outputs of all together.
    """

    tensor: str
    weights: tuple[str, ...]
    shape: tuple[int, int]


@dataclass(frozen=True)
class GroupPlan:
    """How a group is computed.

    Attributes:
        quantized: False leaves it in floating point.
        alpha: share of a channel's range that SmoothQuant (Xiao et al., ICML 2023) moves into the weights.
        outliers: input channels, those that cost most, that are computed in floating point beside the int8 product:
            the decomposition of LLM.int8() (Dettmers et al., NeurIPS 2022) with channels fixed by the calibration.
    """

    quantized: bool = True
    alpha: float = 0.75
    outliers: int = 0


@dataclass(frozen=True)
class _Rounded:
    """A group's int8 weights with their scales, and what its input must go through: · multiplier, then the range."""

    multiplier: NDArray[np.float32]
    low: float
    high: float
    outliers: NDArray[np.int64]
    weights: Mapping[str, tuple[NDArray[np.int8], NDArray[np.float32]]]


def find_groups(model: onnx.ModelProto) -> list[Group]:
    """All groups of a graph, in its order."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found: dict[str, list[str]] = defaultdict(list)
    for node in model.graph.node:
        if node.op_type == "MatMul" and len(shapes.get(node.input[1], ())) == 2:
            found[node.input[0]].append(node.input[1])
    return [
        Group(tensor, tuple(names), (shapes[names[0]][0], sum(shapes[name][1] for name in names)))
        for tensor, names in found.items()
    ]


class TextQuantizer:
    """Writes int8 graphs of one text encoder; weights rounded for one plan are kept for the next."""

    def __init__(self, source: Path, spec: GraphSpec, statistics: Mapping[str, TensorStatistics]) -> None:
        """Read the fp32 graph.

        Args:
            source: the .onnx file with its weights beside it.
            spec: names and axes.
            statistics: of every group's tensor, on calibration data.

        Raises:
            GraphError: there is nothing to quantize in the graph.
        """
        self._model = onnx.load(str(source))
        self.groups = find_groups(self._model)
        if not self.groups:
            raise GraphError(f"{source.name} has no matrix product with constant weights: nothing to quantize.")
        self._spec = spec
        self._statistics = statistics
        self._values = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._model.graph.initializer}
        self._rounded: dict[tuple[str, GroupPlan, bool], _Rounded] = {}

    def outlier_share(self, group: Group, count: int) -> float:
        """Share of the quantization noise that a group's worst channels would cause, without smoothing; 0 to 1."""
        cost = self._cost(group)
        return float(np.sort(cost)[::-1][:count].sum() / max(cost.sum(), 1e-30))

    def write(self, target: Path, plans: Mapping[str, GroupPlan], form: str = "static") -> GraphInfo:
        """Write one int8 graph, weights in an external file beside it.

        Args:
            target: the .onnx file.
            plans: group's tensor → how it is computed.
            form: one of `FORMS`.

        Raises:
            GraphError: the result fails `check_graph`.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        writer = _Writer(form, self._values)
        writer.rewrite(model, {group.tensor: self._round(group, plans[group.tensor], form) for group in self.groups})
        if form == "blocks":
            next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")).version = _BLOCKS_OPSET
        data = f"{target.name}_data"
        (target.parent / data).unlink(missing_ok=True)
        onnx.save(model, str(target), save_as_external_data=True, location=data, size_threshold=_EXTERNAL_BYTES)
        return check_graph(target, self._spec)

    def _cost(self, group: Group) -> NDArray[np.float32]:
        """Of each input channel: its largest square times its weights' squares."""
        weight = np.concatenate([self._values[name] for name in group.weights], axis=1)
        return self._statistics[group.tensor].largest ** 2 * (weight**2).sum(axis=1)

    def _round(self, group: Group, plan: GroupPlan, form: str) -> _Rounded | None:
        blocks = form == "blocks"
        block = next((size for size in _BLOCKS if group.shape[0] % size == 0), None) if blocks else None
        if not plan.quantized or (blocks and block is None):
            return None
        key = (group.tensor, plan, blocks)
        if key not in self._rounded:
            self._rounded[key] = self._round_group(group, plan, block)
        return self._rounded[key]

    def _round_group(self, group: Group, plan: GroupPlan, block: int | None) -> _Rounded:
        statistics = self._statistics[group.tensor]
        weight = np.concatenate([self._values[name] for name in group.weights], axis=1)
        outliers = np.sort(np.argsort(-self._cost(group), kind="stable")[: plan.outliers])
        kept = np.ones(len(weight), dtype=bool)
        kept[outliers] = False
        largest = np.maximum(statistics.largest, _LEAST_RANGE)
        reach = np.maximum(np.abs(weight).max(axis=1), _LEAST_RANGE)
        smooth = largest**plan.alpha / reach ** (1 - plan.alpha) if plan.alpha else np.ones_like(largest)
        smooth = (smooth / smooth[kept].mean()).astype(np.float32)
        # An outlier channel reaches the int8 product as 0, so it does not widen the range.
        multiplier = np.where(kept, 1 / smooth, 0).astype(np.float32)
        moments = statistics.moments.astype(np.float64) * multiplier[:, None] * multiplier
        inner = weight * np.where(kept, smooth, 0)[:, None].astype(np.float32)
        scales = int8_scales(inner, block)
        # All of the group at once: the factorization of the moments takes most of the time.
        ends = np.cumsum([self._values[name].shape[1] for name in group.weights])[:-1]
        parts = zip(
            np.split(round_weights(inner, scales, moments), ends, axis=1), np.split(scales, ends, axis=1), strict=True
        )
        rounded = dict(zip(group.weights, parts, strict=True))
        low, high = statistics.lowest * multiplier, statistics.highest * multiplier
        return _Rounded(multiplier, min(float(low.min()), 0.0), max(float(high.max()), 0.0), outliers, rounded)


class _Writer:
    """Puts the nodes of an int8 graph together."""

    def __init__(self, form: str, values: Mapping[str, NDArray[Any]]) -> None:
        self._form = form
        self._values = values
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._written: set[str] = set()

    def rewrite(self, model: onnx.ModelProto, groups: Mapping[str, _Rounded | None]) -> None:
        """Replace the products of the groups; None leaves a group as it is."""
        graph = model.graph
        sides: dict[str, str] = {}
        for node in graph.node:
            group = groups.get(node.input[0]) if node.op_type == "MatMul" else None
            if group is not None and node.input[1] in group.weights:
                self._product(node, group, sides, _bias_output(graph, node.output[0], self._values))
            elif node.op_type == "Gather" and self._is_table(node.input[0]):
                self._table(node)
            elif node.output[0] in sides:
                final = node.output[0]
                node.output[0] = f"{final}:biased"
                self._nodes.append(node)
                self._node("Add", [f"{final}:biased", sides[final]], final)
            else:
                self._nodes.append(node)
        del graph.node[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        read = {name for node in graph.node for name in node.input}
        kept = [tensor for tensor in (*graph.initializer, *self._constants.values()) if tensor.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    def _product(self, node: onnx.NodeProto, group: _Rounded, sides: dict[str, str], biased: str | None) -> None:
        source, name, output = *node.input, node.output[0]
        values, scales = group.weights[name]
        product = output if biased or not len(group.outliers) else f"{output}:inner"
        if self._form == "blocks":
            # Unsigned, as ONNX Runtime's kernel has it.
            arrays = ((values.astype(np.int16) + 128).astype(np.uint8), scales, np.full(scales.shape, 128, np.uint8))
            attributes = {"axis": 0, "block_size": len(values) // len(scales)}
            inner = self._smoothed(source, group)
        else:
            arrays = (values, scales[0], np.zeros(len(scales[0]), np.int8))
            attributes = {"axis": 1}
            inner = self._input(source, group)
        names = [self._constant(f"{name}:{kind}", array) for kind, array in zip(_KINDS, arrays, strict=True)]
        weight = self._node("DequantizeLinear", names, f"{name}:dequantized", **attributes)
        self._node("MatMul", [inner, weight], product)
        if len(group.outliers):
            index = self._constant(f"{source}:outlier_channels", group.outliers)
            chosen = self._node("Gather", [source, index], f"{source}:outliers", axis=-1)
            beside = self._constant(f"{name}:outliers", self._values[name][group.outliers])
            side = self._node("MatMul", [chosen, beside], f"{output}:beside")
            if biased:  # after the bias, which engines fuse with the product
                sides[biased] = side
            else:
                self._node("Add", [product, side], output)

    def _smoothed(self, source: str, group: _Rounded) -> str:
        if np.all(group.multiplier == 1):
            return source
        return self._node(
            "Mul", [source, self._constant(f"{source}:multiplier", group.multiplier)], f"{source}:smoothed"
        )

    def _input(self, source: str, group: _Rounded) -> str:
        smoothed = self._smoothed(source, group)
        if self._form == "tensorrt":
            scale, zero = max(group.high, -group.low) / 127, np.asarray(0, np.int8)
        else:
            scale = (group.high - group.low) / 255
            zero = np.asarray(round(-group.low / scale) if scale else 0, np.uint8)
        scale_name = self._constant(f"{source}:scale", np.asarray(scale or 1.0, np.float32))
        zero_name = self._constant(f"{source}:zero", zero)
        quantized = self._node("QuantizeLinear", [smoothed, scale_name, zero_name], f"{source}:quantized")
        return self._node("DequantizeLinear", [quantized, scale_name, zero_name], f"{source}:dequantized")

    def _is_table(self, name: str) -> bool:
        return self._values.get(name, np.empty(0)).ndim == 2

    def _table(self, node: onnx.NodeProto) -> None:
        """The embedding table as int8 with a scale per row; only the rows that are read are dequantized."""
        name, output = node.input[0], node.output[0]
        scales = int8_scales(self._values[name].T)
        rows = self._constant(f"{name}:int8", round_to_nearest(self._values[name].T, scales).T)
        scale = self._constant(f"{name}:scale", scales.T)
        self._node("Gather", [rows, node.input[1]], f"{output}:int8")
        self._node("Cast", [f"{output}:int8"], f"{output}:float", to=onnx.TensorProto.FLOAT)
        self._node("Gather", [scale, node.input[1]], f"{output}:scale")
        self._node("Mul", [f"{output}:float", f"{output}:scale"], output)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _node(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        if output not in self._written:
            self._written.add(output)
            name = f"{output}:{op_type}"
            self._nodes.append(helper.make_node(op_type, list(inputs), [output], name=name, **attributes))
        return output


def _bias_output(graph: onnx.GraphProto, product: str, values: Mapping[str, NDArray[Any]]) -> str | None:
    """Output of the addition of a constant that alone reads the product, if there is one."""
    found = [node for node in graph.node if product in node.input]
    if len(found) == 1 and found[0].op_type == "Add" and any(name in values for name in found[0].input):
        return found[0].output[0]
    return None
