"""The product whose outputs are another product's inputs, channel by channel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray

__all__ = ["Producer", "find_producer"]

# Of activation functions: each output depends on the same channel of the inputs alone.
_ELEMENTWISE = frozenset({"Add", "Div", "Erf", "Gelu", "Mul", "Pow", "Relu", "Sigmoid", "Sqrt", "Sub", "Tanh"})


@dataclass(frozen=True)
class Producer:
    """A product and the addition of its bias.

    Attributes:
        tensor: what the product reads.
        weight: name of its weight (inputs, outputs).
        bias: name of its bias (outputs,).
    """

    tensor: str
    weight: str
    bias: str


def find_producer(graph: onnx.GraphProto, tensor: str, values: Mapping[str, NDArray[Any]]) -> Producer | None:
    """Find the product before an activation function, if nothing else reads what lies between.

    Args:
        graph: with its nodes in order.
        tensor: output of the activation function.
        values: the graph's weights by name.
    """
    writers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    chain: list[onnx.NodeProto] = []
    biased: set[str] = set()
    waiting = [tensor]
    while waiting:
        node = writers.get(waiting.pop())
        if node is None or node.op_type not in _ELEMENTWISE:
            return None
        constants = [name for name in node.input if name in values]
        if node.op_type == "Add" and any(values[name].ndim == 1 for name in constants):
            biased.add(node.output[0])
            continue
        if any(values[name].size > 1 for name in constants):
            return None
        if node not in chain:
            chain.append(node)
            waiting += [name for name in node.input if name not in constants]
    if len(biased) != 1:
        return None
    addition = writers[biased.pop()]
    (bias,) = (name for name in addition.input if name in values)
    product = next((writers[name] for name in addition.input if name in writers), None)
    if product is None or product.op_type != "MatMul" or values.get(product.input[1], values[bias]).ndim != 2:
        return None
    between = {addition.output[0], *(node.output[0] for node in chain)} - {tensor}
    alone = (
        all(reader in chain for name in between for reader in readers[name])
        and all(reader.op_type == "MatMul" and reader.input[1] in values for reader in readers[tensor])
        and [len(readers[name]) for name in (product.output[0], product.input[1], bias)] == [1, 1, 1]
        and not {tensor, *between, product.output[0]} & {output.name for output in graph.output}
    )
    return Producer(product.input[0], product.input[1], bias) if alone else None
