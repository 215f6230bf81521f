"""Which matrix products of a transformer int8 damages most.

What int8 adds to a product's output is computed for its inputs in the fp32 graph, and added there by the graph, one
product after the other: how far the embeddings move is the damage. The graph is written and opened once.

Writing, opening and measuring an int8 graph for each product, without that product, cost nine times as much of MiniLM,
and ordered them no better. Loss (1 − mean cosine, in millionths) of MiniLM on held-out notes and on reports of Open-I
with an eighth, a quarter and half of the operations in floating point:

* as here: 568, 443, 251 and 595, 470, 253;
* by graphs without each product: 601, 473, 290 and 623, 495, 303;
* by the error of each product's output relative to its size: 705, 600, 385 and 705, 605, 388;
* in the order of the graph: 714, 591, 436 and 720, 584, 413.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from export.graphs.watch import opened_beside
from export.precision.int8 import Group, GroupPlan, TextQuantizer
from export.progress import Steps
from runtime.engines import Provider

__all__ = ["Plans", "ProductRanking", "operations"]

Plans = Mapping[str, GroupPlan]


def operations(group: Group) -> int:
    """Multiplications of a group's products for one token."""
    return group.shape[0] * group.shape[1]


class ProductRanking:
    """Orders the products of one encoder; the order is made when it is first asked for, and kept."""

    def __init__(
        self,
        quantizer: TextQuantizer,
        source: Path,
        feed: Mapping[str, NDArray[Any]],
        output: str,
        engine: Provider,
        steps: Steps,
    ) -> None:
        """Nothing is measured yet.

        Args:
            quantizer: of the encoder.
            source: the fp32 graph.
            feed: its inputs, of a few calibration items; the held-out ones only judge.
            output: name of the embeddings.
            engine: what runs the graph.
            steps: where the time taken is shown.
        """
        self._quantizer = quantizer
        self._source = source
        self._feed = feed
        self._output = output
        self._engine = engine
        self._steps = steps
        self._ranked: list[Group] | None = None

    def order(self, plans: Plans) -> list[Group]:
        """Groups by the damage that int8 does to the embeddings through each, per operation, most first.

        Args:
            plans: group's tensor → how it is computed when the order is first asked for.

        Raises:
            ProviderError: the engine cannot open the graph.
        """
        if self._ranked is None:
            groups = self._quantizer.groups
            with self._steps.substep(f"ranking {len(groups)} products by the damage that int8 does to each"):
                damage = self._damage(plans)
            self._ranked = sorted(groups, key=lambda group: -damage[group.tensor] / operations(group))
        return self._ranked

    def _damage(self, plans: Plans) -> dict[str, float]:
        """Group's tensor → sum of the squares by which the embeddings move."""
        groups = self._quantizer.groups
        graph, errors, none = _with_errors(onnx.load(str(self._source), load_external_data=False), groups)
        damage = {}
        with opened_beside(self._source, graph, self._engine) as session:
            outputs = [self._output, *(group.tensor for group in groups)]
            expected, *inputs = session.run(outputs, {**self._feed, **none})
            for group, found in zip(groups, inputs, strict=True):
                added = self._quantizer.product_errors(group, plans[group.tensor], found)
                feed: dict[str, NDArray[Any]] = {**self._feed, **none}
                feed |= {errors[name]: error for name, error in added.items()}
                damage[group.tensor] = float(np.square(session.run([self._output], feed)[0] - expected).sum())
        return damage


def _with_errors(
    model: onnx.ModelProto, groups: Sequence[Group]
) -> tuple[onnx.ModelProto, dict[str, str], dict[str, NDArray[np.float32]]]:
    """A graph that adds an input to the output of each product, and gives what the products read.

    Args:
        model: the fp32 graph, which is changed.

    Returns:
        The graph, weight → name of what is added to its product, and a feed that adds nothing.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in inferred}
    graph, errors, none = model.graph, {}, {}
    weights = {name for group in groups for name in group.weights}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "MatMul" and node.input[1] in weights:
            output = node.output[0]
            node.output[0], errors[node.input[1]] = f"{output}:exact", f"{output}:error"
            nodes.append(helper.make_node("Add", [f"{output}:exact", f"{output}:error"], [output]))
            none[f"{output}:error"] = np.zeros((1,) * ranks[output], np.float32)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    # OpenVINO takes inputs of any shape, but not of any rank.
    graph.input.extend(_floats(name, [None] * zero.ndim) for name, zero in none.items())
    graph.output.extend(_floats(group.tensor, None) for group in groups)
    return model, errors, none


def _floats(name: str, shape: list[None] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
