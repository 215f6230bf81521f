"""How int8 is written in ONNX: quantizers, int8 weights, corrected biases, embedding tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["FORMS", "QdqWriter", "RoundedGroup"]

# See export.precision.int8.
FORMS = ("static", "tensorrt", "blocks")
# The first opset with scales per block.
_BLOCKS_OPSET = 21
_KINDS = ("int8", "scale", "zero")


@dataclass(frozen=True)
class RoundedGroup:
    """A group's int8 weights, and what its input goes through before them.

    Attributes:
        multiplier: float32 (columns,), of the input.
        shift: float32 (columns,), added after that.
        step: of the quantizer, whose zero point is the middle of its range; not used with ranges found at run time.
        weights: name → int8 (columns, outputs), float32 scales (blocks, outputs), and float32 (outputs,) to add to the
            bias.
    """

    multiplier: NDArray[np.float32]
    shift: NDArray[np.float32]
    step: float
    weights: Mapping[str, tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]]


class QdqWriter:
    """Puts the nodes of one int8 graph together."""

    def __init__(
        self,
        form: str,
        values: Mapping[str, NDArray[Any]],
        tables: Mapping[str, tuple[NDArray[np.int8], NDArray[np.float32]]],
    ) -> None:
        """Begin a graph.

        Args:
            form: one of `FORMS`.
            values: the fp32 graph's weights by name.
            tables: embedding tables by name, as int8 (rows, size) and scales (rows, 1).
        """
        self._form = form
        self._values = values
        self._tables = tables
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._written: set[str] = set()

    def rewrite(self, skeleton: onnx.ModelProto, groups: Mapping[str, RoundedGroup | None]) -> onnx.ModelProto:
        """Replace the products of the groups and the embedding tables.

        Args:
            skeleton: the fp32 graph without its weights; it is not changed.
            groups: tensor that a group reads → its weights; None leaves a group as it is.

        Returns:
            The int8 graph with the weights that it reads.
        """
        model = onnx.ModelProto()
        model.CopyFrom(skeleton)
        graph = model.graph
        if self._form == "blocks":
            next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")).version = _BLOCKS_OPSET
        corrections: dict[str, NDArray[np.float32]] = {}
        for node in graph.node:
            group = groups.get(node.input[0]) if node.op_type == "MatMul" else None
            if group is not None and node.input[1] in group.weights:
                self._product(node, group, corrections, _bias_output(graph, node.output[0], self._values))
            elif node.op_type == "Gather" and node.input[0] in self._tables:
                self._table(node)
            else:
                if node.output[0] in corrections:
                    self._correct(node, corrections[node.output[0]])
                self._nodes.append(node)
        del graph.node[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        read = {name for node in graph.node for name in node.input}
        old = (numpy_helper.from_array(value, name) for name, value in self._values.items() if name in read)
        graph.initializer.extend([*old, *self._constants.values()])
        return model

    def _product(
        self,
        node: onnx.NodeProto,
        group: RoundedGroup,
        corrections: dict[str, NDArray[np.float32]],
        biased: str | None,
    ) -> None:
        source, name = node.input
        output = node.output[0]
        values, scales, correction = group.weights[name]
        arrays: list[NDArray[Any]]  # a tuple's items are joined to `object` by some orders of mypy's reading
        if self._form == "blocks":
            # Unsigned, as ONNX Runtime's kernel has it.
            arrays = [(values.astype(np.int16) + 128).astype(np.uint8), scales, np.full(scales.shape, 128, np.uint8)]
            attributes = {"axis": 0, "block_size": len(values) // len(scales)}
            inner = self._smoothed(source, group)
        else:
            arrays = [values, scales[0], np.zeros(len(scales[0]), np.int8)]
            attributes = {"axis": 1}
            inner = self._input(source, group)
        names = [self._constant(f"{name}:{kind}", array) for kind, array in zip(_KINDS, arrays, strict=True)]
        weight = self._node("DequantizeLinear", names, f"{name}:dequantized", **attributes)
        if biased:  # engines fuse the addition with the product
            corrections[biased] = correction
            self._node("MatMul", [inner, weight], output)
        else:
            product = self._node("MatMul", [inner, weight], f"{output}:inner")
            self._node("Add", [product, self._constant(f"{name}:correction", correction)], output)

    def _correct(self, node: onnx.NodeProto, correction: NDArray[np.float32]) -> None:
        """Add to the bias of an addition."""
        (place,) = (index for index, name in enumerate(node.input) if name in self._values)
        bias = node.input[place]
        node.input[place] = self._constant(f"{bias}:{node.output[0]}:corrected", self._values[bias] + correction)

    def _smoothed(self, source: str, group: RoundedGroup) -> str:
        found = source
        for kind, op_type, values, neutral in (
            ("multiplier", "Mul", group.multiplier, 1),
            ("shift", "Add", group.shift, 0),
        ):
            if np.any(values != neutral):
                found = self._node(
                    op_type, [found, self._constant(f"{source}:{kind}", values)], f"{source}:{kind}:applied"
                )
        return found

    def _input(self, source: str, group: RoundedGroup) -> str:
        smoothed = self._smoothed(source, group)
        zero = np.asarray(0, np.int8) if self._form == "tensorrt" else np.asarray(128, np.uint8)
        scale_name = self._constant(f"{source}:scale", np.asarray(group.step, np.float32))
        zero_name = self._constant(f"{source}:zero", zero)
        quantized = self._node("QuantizeLinear", [smoothed, scale_name, zero_name], f"{source}:quantized")
        return self._node("DequantizeLinear", [quantized, scale_name, zero_name], f"{source}:dequantized")

    def _table(self, node: onnx.NodeProto) -> None:
        """Only the rows of the embedding table that are read are dequantized."""
        name, output = node.input[0], node.output[0]
        values, scales = self._tables[name]
        self._node("Gather", [self._constant(f"{name}:int8", values), node.input[1]], f"{output}:int8")
        self._node("Cast", [f"{output}:int8"], f"{output}:float", to=onnx.TensorProto.FLOAT)
        self._node("Gather", [self._constant(f"{name}:scale", scales), node.input[1]], f"{output}:scale")
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
        biased: str = found[0].output[0]
        return biased
    return None
