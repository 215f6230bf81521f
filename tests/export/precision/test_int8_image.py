"""int8 of the image graph: what is quantized and how, on which engines it runs as integers, and what it costs.

Random weights show that the plumbing is right; what int8 costs is judged on trained ones, elsewhere.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from export.graphs import check_graph
from export.precision import int8_image
from export.precision.int8_image import ImageQuantizer, image_layers
from runtime.engines import PROVIDERS, SessionOptions
from tests.export.conftest import CROP, SPEC, Quantized

pytestmark = pytest.mark.slow

# Of images and of patches, with random weights; trained ones do better.
COSINES = {"cpu": (0.993, 0.975), "tensorrt": (0.99, 0.96)}
# Of the embeddings of one quantized layer more or less, by which a comparison may be wrong.
NOISE = 2e-4


def embed(path: Path, pixels: NDArray[np.uint8], engine: str = "cpu", precision: str = "fp32") -> list[NDArray]:
    session = PROVIDERS[engine].open(path, SessionOptions(threads=2, precision=precision))
    return session.run(list(SPEC.outputs), {"pixel_values": pixels})


def mean_cosines(found: list[NDArray], expected: list[NDArray]) -> NDArray[np.float64]:
    """Of images and of patches, which have unit norm in both."""
    for arrays in (found, expected):
        assert all(np.allclose(np.linalg.norm(array, axis=-1), 1, atol=1e-3) for array in arrays)
    return np.array([(a.astype(np.float64) * b).sum(-1).mean() for a, b in zip(found, expected, strict=True)])


def constants(model: onnx.ModelProto) -> dict[str, NDArray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def split(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """DequantizeLinear nodes of weights and of activations."""
    known = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    return [n for n in nodes if n.input[0] in known], [n for n in nodes if n.input[0] not in known]


def float_layers(model: onnx.ModelProto) -> list[str]:
    known = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] in known]


@pytest.mark.parametrize("spelling", ["cpu", "tensorrt"])
def test_inputs_outputs_and_operators_stay(source: Path, quantized: dict[str, Quantized], spelling: str) -> None:
    before, after = check_graph(source, SPEC), quantized[spelling].info
    assert (after.opset, after.inputs, after.outputs) == (before.opset, before.inputs, before.outputs)
    assert [tensor.dtype for tensor in (*after.inputs, *after.outputs)] == ["uint8", "float32", "float32"]
    added = {"Cast", "QuantizeLinear", "DequantizeLinear"}
    expected, found = (
        Counter({name: n for name, n in info.operators.items() if name not in added}) for info in (before, after)
    )
    if spelling == "cpu":  # squares of pixels instead of the one channel
        expected = expected - Counter({"Unsqueeze": 1}) + Counter({"Reshape": 2, "Transpose": 1})
    assert found == expected


@pytest.mark.parametrize("spelling", ["cpu", "tensorrt"])
def test_weights_are_signed_and_scaled_per_channel(quantized: dict[str, Quantized], spelling: str) -> None:
    model = quantized[spelling].model
    known, (weights, _) = constants(model), split(model)
    assert len(weights) == len(image_layers_of(model)) - len(float_layers(model))
    for node in weights:
        weight, scale, zero = (known[name] for name in node.input)
        assert weight.dtype == zero.dtype == np.int8
        assert scale.shape == zero.shape == weight.shape[:1]
        assert not zero.any()
        assert [attribute.i for attribute in node.attribute if attribute.name == "axis"] == [0]
        # Each channel uses its range (the first layer half of it, against overflow where there is no VNNI).
        assert (np.abs(weight.astype(int)).reshape(len(weight), -1).max(1) >= 63).all()


def image_layers_of(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize(("spelling", "dtype"), [("cpu", np.uint8), ("tensorrt", np.int8)])
def test_activations_are_of_one_type(quantized: dict[str, Quantized], spelling: str, dtype: type) -> None:
    model = quantized[spelling].model
    known, (_, activations) = constants(model), split(model)
    nodes = [*activations, *(node for node in model.graph.node if node.op_type == "QuantizeLinear")]
    zeros = [known[node.input[2]] for node in nodes]
    assert {zero.dtype for zero in zeros} == {np.dtype(dtype)}
    assert {known[node.input[1]].shape for node in nodes} == {()}
    if spelling == "tensorrt":
        assert not np.any(zeros)
    else:
        assert len(np.unique(zeros)) > 1  # the inputs of residual additions, which are also negative
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    types = {value.name: value.type.tensor_type.elem_type for value in inferred}
    expected = TensorProto.UINT8 if spelling == "cpu" else TensorProto.INT8
    assert {types[node.input[0]] for node in activations} == {expected}


@pytest.mark.parametrize("spelling", ["cpu", "tensorrt"])
def test_ranges_mean_what_nncf_measures_itself(
    source: Path,
    quantized: dict[str, Quantized],
    calibration: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spelling: str,
) -> None:
    """NNCF reads all images here. It gives a type of its own to some activations, S8 with a zero point for example."""
    quantizer = ImageQuantizer(source, SPEC, calibration)
    monkeypatch.setattr(quantizer, "_one", calibration)
    monkeypatch.setattr(int8_image, "_set_ranges", lambda graph, ranges, symmetric: None)
    quantizer.write(tmp_path / "nncf.onnx", symmetric=spelling == "tensorrt")
    model = onnx.load(tmp_path / "nncf.onnx")
    known = constants(model)
    types = {known[node.input[2]].dtype for node in split(model)[1]}
    assert types == {np.dtype(np.int8), np.dtype(np.uint8)}
    if spelling == "tensorrt":  # the same range in half the steps above zero
        ours = constants(quantized[spelling].model)
        after = {node.input[0]: node for node in split(quantized[spelling].model)[1]}
        for node in split(model)[1]:
            steps = 255 / 127 if known[node.input[2]].dtype == np.uint8 else 1
            assert ours[after[node.input[0]].input[1]] == pytest.approx(known[node.input[1]] * steps, rel=1e-5)
        return
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    signed, unsigned = (
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(
            None, {"pixel_values": held_out}
        )
        for path in (tmp_path / "nncf.onnx", quantized[spelling].path)
    )
    for a, b in zip(signed, unsigned, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("spelling", ["cpu", "tensorrt"])
def test_the_first_convolution_reads_the_very_pixels(
    quantized: dict[str, Quantized], tmp_path: Path, spelling: str
) -> None:
    model = quantized[spelling].model
    name = next(node for node in model.graph.node if node.op_type == "Conv").input[0]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "stem.onnx")
    pixels = np.resize(np.arange(256, dtype=np.uint8), (1, CROP, CROP))
    session = onnxruntime.InferenceSession(tmp_path / "stem.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run([name], {"pixel_values": pixels})
    if spelling == "cpu":
        found = found.reshape(1, 2, 2, CROP // 2, CROP // 2).transpose(0, 3, 1, 4, 2).reshape(1, 1, CROP, CROP)
    np.testing.assert_array_equal(found[:, 0], pixels)


@pytest.mark.parametrize("spelling", ["cpu", "tensorrt"])
@pytest.mark.parametrize("engine", ["cpu", "openvino"])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_embeddings_are_close_in_every_batch(
    source: Path, quantized: dict[str, Quantized], held_out: NDArray[np.uint8], engine: str, batch: int, spelling: str
) -> None:
    found = embed(quantized[spelling].path, held_out[:batch], engine, "int8")
    assert [array.shape for array in found] == [(batch, 128), (batch, 3, 3, 128)]
    assert (mean_cosines(found, embed(source, held_out[:batch])) > COSINES[spelling]).all()


def test_ranges_that_were_never_calibrated_are_seen(
    source: Path, calibration: NDArray[np.uint8], held_out: NDArray[np.uint8], tmp_path: Path
) -> None:
    """The control of the test above."""
    ImageQuantizer(source, SPEC, np.zeros_like(calibration[:2])).write(tmp_path / "black.onnx")
    cosines = mean_cosines(embed(tmp_path / "black.onnx", held_out), embed(source, held_out))
    assert (cosines < np.array(COSINES["tensorrt"]) - 0.03).all()


def test_biases_make_up_for_the_rounding_of_weights(
    source: Path, quantized: dict[str, Quantized], calibration: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Of the same inputs, image by image, the mean output of every layer is that of the float weights."""
    model = onnx.load(source)
    originals = {node.name: node for node in model.graph.node if node.op_type == "Conv"}
    names = sorted({node.input[0] for node in originals.values()})
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    onnx.save(model, tmp_path / "inputs.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "inputs.onnx", providers=["CPUExecutionProvider"])
    inputs = dict(zip(names, session.run(names, {"pixel_values": calibration}), strict=True))
    before, after = constants(model), constants(quantized["cpu"].model)
    dequantizers = {node.output[0]: node for node in split(quantized["cpu"].model)[0]}
    for node in quantized["cpu"].model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in dequantizers:
            continue
        weight, scale, _ = (after[name] for name in dequantizers[node.input[1]].input)
        original = originals[node.name]
        stride, padding = (
            next(attribute.ints[0] for attribute in original.attribute if attribute.name == name)
            for name in ("strides", "pads")
        )
        if weight.shape != before[original.input[1]].shape:  # the first one reads squares of pixels
            count, _, taps, _ = weight.shape
            squares = weight.reshape(count, 2, 2, taps, taps).transpose(0, 3, 1, 4, 2)
            weight = squares.reshape(count, 1, 2 * taps, 2 * taps)[:, :, 1:, 1:]

        def mean(weight: NDArray, bias: NDArray, name: str, stride: int, padding: int) -> NDArray:
            arguments = (torch.from_numpy(np.array(array)).double() for array in (inputs[name], weight, bias))
            return F.conv2d(*arguments, stride=stride, padding=padding).mean((0, 2, 3)).numpy()

        rest = (original.input[0], stride, padding)
        rounded = weight * scale[:, None, None, None]
        expected = mean(before[original.input[1]], before[original.input[2]], *rest)
        uncorrected = np.abs(mean(rounded, before[original.input[2]], *rest) - expected).max()
        assert np.abs(mean(rounded, after[node.input[2]], *rest) - expected).max() < 0.02 * uncorrected, node.name


def test_onnx_runtime_computes_in_integers(quantized: dict[str, Quantized], tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(quantized["cpu"].path, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph.node
    found, info = [node.op_type for node in nodes], quantized["cpu"].info
    assert found.count("QLinearAdd") == info.operators["Add"]
    # The first layer of the projector is read by the last one, which computes in float.
    assert found.count("QLinearConv") == info.operators["Conv"] - 2


def test_openvino_computes_in_integers(quantized: dict[str, Quantized]) -> None:
    compiled = openvino.Core().compile_model(str(quantized["cpu"].path), "CPU")
    operators = [operator.get_rt_info() for operator in compiled.get_runtime_model().get_ops()]
    kernels = [info["primitiveType"].value for info in operators if info["layerType"].value == "Convolution"]
    assert sum(kernel.endswith("I8") for kernel in kernels) == quantized["cpu"].info.operators["Conv"] - 1


def test_the_last_convolution_and_those_named_stay_in_float(
    source: Path,
    quantized: dict[str, Quantized],
    calibration: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    layers, all_layers = image_layers(source), image_layers_of(onnx.load(source))
    last = all_layers[-1]
    assert layers == all_layers[:-1]
    assert float_layers(quantized["cpu"].model) == [last]
    assert float_layers(quantized["tensorrt"].model) == [layers[0], last]
    expected = embed(source, held_out)
    cosines = [mean_cosines(embed(quantized["cpu"].path, held_out), expected)]
    quantizer = ImageQuantizer(source, SPEC, calibration)
    for keep in (layers[-2:], layers[-8:], layers):
        quantizer.write(tmp_path / "kept.onnx", keep=keep)
        assert float_layers(onnx.load(tmp_path / "kept.onnx")) == [*keep, last]
        cosines.append(mean_cosines(embed(tmp_path / "kept.onnx", held_out), expected))
    assert (np.diff(cosines, axis=0) > -NOISE).all(), cosines
    assert (1 - cosines[-1] < 0.75 * (1 - cosines[0])).all(), cosines
