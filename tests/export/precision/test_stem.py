"""The first convolution over squares of four grey pixels gives the same sums; other beginnings stay as they are."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.precision.stem import fold_grey_stem

SIDE = 24


def stem(
    kernel: int = 7, stride: int = 2, pad: int | None = None, channels: int = 1, side: int = SIDE, integer: bool = True
) -> onnx.ModelProto:
    """Pixels, their type and shape, a convolution and its bias, as NNCF's graph begins."""
    rng = np.random.default_rng(kernel)
    constants = {
        "axes": np.array([1]),
        "one": np.array(1.0, np.float32),
        "zero": np.array(0, np.uint8),
        "weights": rng.integers(-127, 128, (5, channels, kernel, kernel), np.int8),
        "scales": rng.uniform(0.01, 0.02, 5).astype(np.float32),
        "bias": rng.normal(size=5).astype(np.float32),
    }
    shape = ["batch", side, side] if channels == 1 else ["batch", channels, side, side]
    nodes = [helper.make_node("Cast", ["pixel_values"], ["float"], to=TensorProto.FLOAT)]
    if channels == 1:
        nodes.append(helper.make_node("Unsqueeze", ["float", "axes"], ["grey"]))
    nodes += [
        helper.make_node("QuantizeLinear", [nodes[-1].output[0], "one", "zero"], ["quantized"]),
        helper.make_node("DequantizeLinear", ["quantized", "one", "zero"], ["pixels"]),
        helper.make_node("DequantizeLinear", ["weights", "scales"], ["kernel"], axis=0),
    ]
    if not integer:
        constants["kernel"] = constants.pop("weights").astype(np.float32)
        del constants["scales"], nodes[-1]
    pads = [kernel // 2 if pad is None else pad] * 4
    nodes.append(helper.make_node("Conv", ["pixels", "kernel", "bias"], ["out"], strides=[stride] * 2, pads=pads))
    given = helper.make_tensor_value_info("pixel_values", TensorProto.UINT8, shape)
    found = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 5, None, None])
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "stem", [given], [found], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def computed(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"pixel_values": pixels})[0])


@pytest.mark.parametrize("kernel", [3, 7, 11])
def test_sums_are_the_same_to_the_borders(kernel: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), np.uint8)
    before = stem(kernel)
    folded = ir.from_proto(before)
    assert fold_grey_stem(folded.graph)
    after = ir.to_proto(folded)
    (conv,) = (node for node in folded.graph if node.op_type == "Conv")
    assert conv.attributes["strides"].as_ints() == (1, 1)
    assert conv.inputs[1].producer().inputs[0].shape == ir.Shape([5, 4, (kernel + 1) // 2, (kernel + 1) // 2])
    expected, found = computed(before, pixels), computed(after, pixels)
    assert found.shape == expected.shape == (3, 5, SIDE // 2, SIDE // 2)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    turned = computed(after, pixels.transpose(0, 2, 1))
    assert np.abs(turned - expected).max() > 0.1 * np.abs(expected).max(), "a negative control"


@pytest.mark.parametrize(
    "other",
    [
        {"stride": 1},
        {"pad": 2},
        {"kernel": 5},
        {"channels": 3},
        {"side": 25},
        {"integer": False},
    ],
    ids=str,
)
def test_other_beginnings_stay_as_they_are(other: dict) -> None:
    model = ir.from_proto(stem(**other))
    before = ir.to_proto(model).SerializeToString()
    assert not fold_grey_stem(model.graph)
    assert ir.to_proto(model).SerializeToString() == before


def test_pixels_that_are_changed_first_stay_as_they_are() -> None:
    model = stem()
    model.graph.node[0].output[0] = "raw"
    model.graph.node.insert(1, helper.make_node("Sqrt", ["raw"], ["float"]))
    assert not fold_grey_stem(ir.from_proto(model).graph)
