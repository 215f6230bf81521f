"""A text encoder in int8: which matrix products are quantized, with which ranges and weights.

Three forms:

* "static": QDQ; activations as uint8 with ranges from the calibration. Fast on every processor.
* "tensorrt": the same with symmetric int8 activations, zero points 0, as TensorRT wants them.
* "blocks": int8 weights with a scale per 64 inputs and output; ONNX Runtime and OpenVINO then quantize activations at
  run time, per token and block.

Not DynamicQuantizeLinear with MatMulInteger, which ONNX Runtime runs as fast as the static form: one range for a whole
batch, padding included, gives a mean cosine of 0.9954 where "blocks" gives 0.9997 (MiniLM, held-out notes).

What makes the static form good is how the inputs are prepared (`export.precision.inputs`), the rounding
(`export.precision.rounding`), and biases that take out what both add to the output on average.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.errors import GraphError
from export.graphs import GraphInfo, GraphSpec, check_graph
from export.graphs.graph import save_weights_apart
from export.precision.inputs import error_left, fixed_smoothing, smoothed_inputs
from export.precision.producers import find_producer
from export.precision.qdq import FORMS, QdqWriter, RoundedGroup
from export.precision.rounding import int8_scales, round_rows, round_weights
from export.precision.statistics import TensorStatistics

__all__ = ["FORMS", "Group", "GroupPlan", "TextQuantizer", "find_groups"]

# Inputs that share a weight scale in the form "blocks", best first: those that ONNX Runtime has kernels for.
_BLOCKS = (64, 32, 16)
# Share of a channel's range that moves into the weights in the form "blocks" (MiniLM, Open-I reports: 1 - centred
# cosine 4.2e-4, without any 12.7e-4).
_BLOCKS_ALPHA = 0.75
# One more column for so many, in numbers that kernels like: 2 % more of the two products that they are part of.
_INPUTS_A_COPY, _COPIES_AT_ONCE = 48, 16
# They are added where they leave no more of the error of the inputs than this.
_WORTH_COPIES = 0.7


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
        copies: columns that are added for channels with outliers, see `export.precision.inputs`.
    """

    quantized: bool = True
    copies: int = 0


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
        model = onnx.load(str(source))
        self.groups = find_groups(model)
        if not self.groups:
            raise GraphError(f"{source.name} has no matrix product with constant weights: nothing to quantize.")
        self._spec = spec
        self._statistics = statistics
        self._values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        # Weights are added to each graph as far as it reads them: most are replaced by smaller ones.
        del model.graph.initializer[:]
        self._skeleton = model
        self._producers = {
            group.tensor: find_producer(model.graph, group.tensor, self._values) for group in self.groups
        }
        # Position embeddings are read by Gather too, but are too small to be worth the loss.
        tables = {node.input[0] for node in model.graph.node if "input_ids" in node.input[1:]}
        self._tables = {
            name: round_rows(self._values[name]) for name in tables if self._values.get(name, np.empty(0)).ndim == 2
        }
        self._rounded: dict[tuple[str, GroupPlan, bool], _Rounded] = {}

    def copies(self, group: Group) -> int:
        """How many columns are worth adding for a group's outliers; 0 where they gain too little or cannot be had."""
        added = group.shape[0] // _INPUTS_A_COPY // _COPIES_AT_ONCE * _COPIES_AT_ONCE
        if not added or self._producers[group.tensor] is None:
            return 0
        left = error_left(self._weight(group), self._statistics[group.tensor], added)
        return added if left <= _WORTH_COPIES else 0

    def alpha(self, group: Group, plan: GroupPlan, form: str) -> float | None:
        """The share of the ranges that moves into a group's weights, see `export.precision.inputs`; None in float."""
        rounded = self._round(group, plan, form)
        return None if rounded is None else rounded.alpha

    def write(self, target: Path, plans: Mapping[str, GroupPlan], form: str = "static") -> GraphInfo:
        """Write one int8 graph, weights in an external file beside it.

        Args:
            target: the .onnx file.
            plans: group's tensor → how it is computed.
            form: one of `FORMS`. With "blocks" a product stays in floating point if 16 does not divide its inputs.

        Raises:
            GraphError: the result fails `check_graph`.
        """
        rounded = {group.tensor: self._round(group, plans[group.tensor], form) for group in self.groups}
        values = dict(self._values)
        for group in self.groups:
            found, producer = rounded[group.tensor], self._producers[group.tensor]
            if found is not None and producer is not None and len(found.index) > group.shape[0]:
                # The product before it gives the channels that have copies as often as they are read.
                values |= {name: values[name][..., found.index] for name in (producer.weight, producer.bias)}
                before = rounded[producer.tensor]
                if before is not None:
                    rounded[producer.tensor] = before.with_columns(producer.weight, found.index)
        groups = {tensor: None if found is None else found.group for tensor, found in rounded.items()}
        model = QdqWriter(form, values, self._tables).rewrite(self._skeleton, groups)
        data = f"{target.name}_data"
        (target.parent / data).unlink(missing_ok=True)
        save_weights_apart(model, target, data)
        return check_graph(target, self._spec)

    def product_errors(
        self, group: Group, plan: GroupPlan, inputs: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """What the form "static" adds to each product of a group, to a rounding error of float32.

        Args:
            group: the products.
            plan: how they are computed.
            inputs: float32 (…, inputs) that they read.

        Returns:
            Weight → float32 (…, outputs); empty for a group in floating point.
        """
        rounded = self._round(group, plan, "static")
        if rounded is None:
            return {}
        moved = inputs[..., rounded.index] * rounded.group.multiplier + rounded.group.shift
        levels = np.clip(np.rint(moved / np.float32(rounded.group.step)), -128, 127)
        errors = {}
        for name, (values, scales, correction) in rounded.group.weights.items():
            product = levels @ values.astype(np.float32) * (np.float32(rounded.group.step) * scales[0])
            errors[name] = product + correction - inputs @ self._values[name]
        return errors

    def _weight(self, group: Group) -> NDArray[np.float32]:
        return np.concatenate([self._values[name] for name in group.weights], axis=1)

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
        weight, statistics = self._weight(group), self._statistics[group.tensor]
        inputs = (
            fixed_smoothing(weight, statistics, _BLOCKS_ALPHA)
            if block
            else smoothed_inputs(weight, statistics, plan.copies)
        )
        inner = weight[inputs.index] * inputs.factors[:, None]
        scales = int8_scales(inner, block)
        # All of the group at once: the factorization of the moments takes most of the time.
        values = round_weights(inner, scales, inputs.covariance)
        spread = np.repeat(scales, len(values) // len(scales), axis=0)
        # What the product has too much or too little on average.
        correction = (statistics.means @ weight - inputs.means @ (values * spread.astype(np.float64))).astype(
            np.float32
        )
        ends = np.cumsum([self._values[name].shape[1] for name in group.weights])[:-1]
        parts = zip(*(np.split(each, ends, axis=-1) for each in (values, scales, correction)), strict=True)
        weights = dict(zip(group.weights, parts, strict=True))
        return _Rounded(
            inputs.alpha,
            inputs.index,
            RoundedGroup(inputs.multiplier, inputs.shift, inputs.step, weights),
        )


@dataclass(frozen=True)
class _Rounded:
    """A group's weights, and which channel each column of them reads."""

    alpha: float
    index: NDArray[np.int64]
    group: RoundedGroup

    def with_columns(self, weight: str, index: NDArray[np.int64]) -> _Rounded:
        """The same with other output columns of one weight."""
        values, scales, correction = self.group.weights[weight]
        weights = {**self.group.weights, weight: (values[:, index], scales[:, index], correction[index])}
        return replace(self, group=replace(self.group, weights=weights))
