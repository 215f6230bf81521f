"""A text encoder in int8: which matrix products are quantized, with which ranges and weights.

Three forms:

* "static": QDQ; activations as uint8 with ranges from the calibration. Fast on every processor.
* "tensorrt": the same with symmetric int8 activations, zero points 0, as TensorRT wants them.
* "blocks": int8 weights with a scale per 64 inputs and output; ONNX Runtime and OpenVINO then quantize activations at
  run time, per token and block.

Not DynamicQuantizeLinear with MatMulInteger, which ONNX Runtime runs as fast as the static form: one range for a whole
batch, padding included, gives a mean cosine of 0.9954 where "blocks" gives 0.9997 (MiniLM, held-out notes).

NNCF was measured beside it (MiniLM on held-out notes, OpenVINO, about the same speed): mean
cosine 0.9978 against 0.9993. The difference is the rounding (`export.precision.rounding`) and the outlier channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.errors import GraphError
from export.graphs import GraphInfo, GraphSpec, check_graph
from export.graphs.graph import save_weights_apart
from export.precision.qdq import FORMS, QdqWriter, RoundedGroup
from export.precision.rounding import int8_scales, round_rows, round_weights
from export.precision.statistics import TensorStatistics

__all__ = ["FORMS", "Group", "GroupPlan", "TextQuantizer", "find_groups"]

# Inputs that share a weight scale in the form "blocks", best first: those that ONNX Runtime has kernels for.
_BLOCKS = (64, 32, 16)
_LEAST_RANGE = 1e-5


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
        # Position embeddings are read by Gather too, but are too small to be worth the loss.
        tables = {node.input[0] for node in model.graph.node if "input_ids" in node.input[1:]}
        self._tables = {
            name: round_rows(self._values[name]) for name in tables if self._values.get(name, np.empty(0)).ndim == 2
        }
        self._rounded: dict[tuple[str, GroupPlan, bool], RoundedGroup] = {}

    def outlier_share(self, group: Group, count: int) -> float:
        """Share of the quantization noise that a group's worst channels would cause, without smoothing; 0 to 1."""
        cost = self._cost(group)
        return float(np.sort(cost)[::-1][:count].sum() / max(cost.sum(), 1e-30))

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
        model = QdqWriter(form, self._values, self._tables).rewrite(self._skeleton, rounded)
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
        scale = np.float32((rounded.high - rounded.low) / 255 or 1.0)
        zero = round(-rounded.low / scale)
        levels = np.clip(np.rint(inputs * rounded.multiplier / scale) + zero, 0, 255) - zero
        errors = {}
        for name, (values, scales) in rounded.weights.items():
            exact = self._values[name]
            errors[name] = (levels @ values.astype(np.float32)) * (scale * scales[0]) - inputs @ exact
            errors[name] += inputs[..., rounded.outliers] @ exact[rounded.outliers]
        return errors

    def _cost(self, group: Group) -> NDArray[np.float32]:
        """Of each input channel: its largest square times its weights' squares."""
        weight = np.concatenate([self._values[name] for name in group.weights], axis=1)
        cost: NDArray[np.float32] = self._statistics[group.tensor].largest ** 2 * (weight**2).sum(axis=1)
        return cost

    def _round(self, group: Group, plan: GroupPlan, form: str) -> RoundedGroup | None:
        blocks = form == "blocks"
        block = next((size for size in _BLOCKS if group.shape[0] % size == 0), None) if blocks else None
        if not plan.quantized or (blocks and block is None):
            return None
        key = (group.tensor, plan, blocks)
        if key not in self._rounded:
            self._rounded[key] = self._round_group(group, plan, block)
        return self._rounded[key]

    def _round_group(self, group: Group, plan: GroupPlan, block: int | None) -> RoundedGroup:
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
        return RoundedGroup(multiplier, min(float(low.min()), 0.0), max(float(high.max()), 0.0), outliers, rounded)
