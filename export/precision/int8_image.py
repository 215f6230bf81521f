"""fp32 → int8 (QDQ) of the image graph, calibrated by NNCF, in one spelling for processors and one for TensorRT.

NNCF places the quantizers and measures the ranges. What it gets wrong for this graph is put right before or after:

* The means and norms at the end stay in float: quantized, the embeddings would not have unit norm. So does the last
  convolution, which has 0.02 % of the multiplications.
* Biases are corrected for the rounding of the weights, see `_correct_biases`. NNCF's own fast correction feeds a layer
  the mean of each channel, as if it were the same all over the image. Near the borders, which are padded with zeros
  and often black, it is not; on a trained model that made the embeddings worse than no correction.
* Ranges are the smallest and the largest value of all images, not the mean over images of these, which NNCF takes.
* The pixels are 8-bit integers already: on processors they enter the first convolution as they are, with scale 1.
* On processors all activations are U8. NNCF gives those with a negative part (the inputs of residual additions) S8;
  shifting the zero point by 128 says the same, and U8 × S8 is fast everywhere.
* TensorRT wants int8 with zero point 0. There the first convolution stays in float: pixels would lose their lowest bit,
  and with one input channel integers have no advantage on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass

from export.errors import GraphError
from export.graphs import GraphInfo, GraphSpec, check_graph
from export.graphs.quiet import quiet
from export.graphs.watch import opened_beside
from runtime.engines import choose_provider
from runtime.errors import MissingExtraError
from runtime.process import import_private

__all__ = ["image_layers", "quantize_image"]

# Weights from this size on go to the external file, as in `export.graphs.graph`.
_EXTERNAL_BYTES = 1024
# What may have quantized inputs; all other operators of the graph prepare pixels or finish embeddings.
_QUANTIZED_OPERATORS = frozenset({"Add", "Conv", "MaxPool", "Relu"})
_SIGNED_TO_UNSIGNED = 128
_UNSIGNED_STEPS, _SIGNED_STEPS = 255, 127
# The graph runs on every image twice; the ranges take a little longer.
_SHARE_OF_RANGES = 0.55


def image_layers(source: Path) -> list[str]:
    """Names of the nodes that `quantize_image` quantizes, in the graph's order: all convolutions but the last.

    Args:
        source: the fp32 graph.
    """
    return [str(node.name) for node in _convolutions(ir.load(source).graph)][:-1]


def quantize_image(
    source: Path,
    target: Path,
    spec: GraphSpec,
    pixels: NDArray[np.uint8],
    *,
    symmetric: bool = False,
    keep: Collection[str] = (),
    progress: Callable[[float], None] = lambda share: None,
) -> GraphInfo:
    """Quantize the image graph: weights S8 per output channel, activations per tensor.

    Args:
        source: the fp32 graph, as written by `export_graph`.
        target: the .onnx file to write; the weights go beside it, to `<stem>.onnx_data`.
        spec: names and axes, the same as the source's.
        pixels: uint8 (N, …) as the graph reads them, to calibrate with.
        symmetric: S8 activations with zero point 0 for TensorRT, instead of U8 for processors.
        keep: nodes of `image_layers` to leave in float.
        progress: takes the share done, 0 to 1.

    Raises:
        GraphError: `keep` names something else, or the result fails `check_graph`.
        MissingExtraError: NNCF is not installed.
        ProviderError: nor is ONNX Runtime, with which NNCF calibrates.
    """
    choose_provider("cpu")
    if target.resolve() == source.resolve():
        raise GraphError(f"{target} is the graph to quantize; name another file to write.")
    layers = image_layers(source)
    if unknown := sorted(set(keep) - set(layers)):
        raise GraphError(f"{source.name} has no layers {', '.join(unknown)} to keep; see image_layers().")
    skipped = {*keep, layers[0]} if symmetric else set(keep)
    with quiet():
        nncf = _import_nncf()
        proto = _calibrate(
            nncf, onnx.load(source), spec, pixels, skipped, symmetric, lambda share: progress(_SHARE_OF_RANGES * share)
        )
    model = ir.from_proto(proto)
    _correct_biases(
        source, model, spec, pixels, lambda share: progress(_SHARE_OF_RANGES + (1 - _SHARE_OF_RANGES) * share)
    )
    if symmetric:
        _make_signed(model.graph)
    else:
        _feed_pixels(model.graph)
        _make_unsigned(model.graph)
    RemoveUnusedNodesPass()(model)
    ClearMetadataAndDocStringPass()(model)
    ir.save(model, target, external_data=f"{target.stem}.onnx_data", size_threshold_bytes=_EXTERNAL_BYTES)
    return check_graph(target, spec)


def _convolutions(graph: ir.Graph) -> list[ir.Node]:
    return [node for node in graph if node.op_type == "Conv"]


def _calibrate(
    nncf: Any,
    model: onnx.ModelProto,
    spec: GraphSpec,
    pixels: NDArray[np.uint8],
    keep: Collection[str],
    symmetric: bool,
    progress: Callable[[float], None],
) -> onnx.ModelProto:
    (input_name,) = spec.inputs
    done = 0

    def feed(image: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
        nonlocal done
        done += 1
        progress(min(done / len(pixels), 1.0))
        return {input_name: image[None]}

    others = {node.name for node in model.graph.node if node.op_type not in _QUANTIZED_OPERATORS}
    last = [node.name for node in model.graph.node if node.op_type == "Conv"][-1]
    return nncf.quantize(
        model,
        nncf.Dataset(list(pixels), feed),
        preset=nncf.QuantizationPreset.PERFORMANCE if symmetric else nncf.QuantizationPreset.MIXED,
        subset_size=len(pixels),
        ignored_scope=nncf.IgnoredScope(names=sorted({*others, *keep, last})),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            disable_bias_correction=True,
            activations_range_estimator_params=nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX,
        ),
    )


def _correct_biases(
    source: Path,
    model: ir.Model,
    spec: GraphSpec,
    pixels: NDArray[np.uint8],
    progress: Callable[[float], None],
) -> None:
    """Subtract from each bias what rounding the weights adds to the output on average.

    A convolution is linear, so its mean output over all images and positions is that of the mean image.
    """
    original = {node.name: node for node in _convolutions(ir.load(source).graph)}
    means = _mean_inputs(source, spec, pixels, progress)
    for node in _convolutions(model.graph):
        dequantize = node.inputs[1].producer()
        if dequantize is None:
            continue
        before = original[node.name]
        quantized, scale = (value.const_value.numpy() for value in dequantize.inputs[:2])
        added = quantized * scale[:, None, None, None] - before.inputs[1].const_value.numpy()
        top, left, bottom, right = before.attributes["pads"].as_ints()
        image = F.pad(torch.from_numpy(means[before.inputs[0].name]), (left, right, top, bottom))
        shift = F.conv2d(image, torch.from_numpy(added), stride=before.attributes["strides"].as_ints())
        bias = before.inputs[2].const_value.numpy() - shift.mean((0, 2, 3)).numpy()
        node.replace_input_with(2, _initializer(model.graph, f"{before.inputs[2].name}_corrected", bias))


def _mean_inputs(
    source: Path, spec: GraphSpec, pixels: NDArray[np.uint8], progress: Callable[[float], None]
) -> dict[str, NDArray[np.float32]]:
    """The mean of each convolution's input over all images: tensor name → float32 (1, channels, rows, columns)."""
    model = ir.load(source)
    values = {str(node.inputs[0].name): node.inputs[0] for node in _convolutions(model.graph)}
    model.graph.outputs[:] = values.values()
    (input_name,) = spec.inputs
    sums: list[NDArray[np.float32]] = []
    with opened_beside(source, ir.to_proto(model), choose_provider("cpu")[0]) as session:
        for index, image in enumerate(pixels):
            found = session.run(list(values), {input_name: image[None]})
            sums = [total + array for total, array in zip(sums, found, strict=True)] if sums else found
            progress((index + 1) / len(pixels))
    return {name: total / np.float32(len(pixels)) for name, total in zip(values, sums, strict=True)}


def _feed_pixels(graph: ir.Graph) -> None:
    """Replace Cast → QuantizeLinear → DequantizeLinear of the pixels by DequantizeLinear with scale 1."""
    for node in list(graph):
        cast = node.inputs[0].producer() if node.op_type == "QuantizeLinear" else None
        if cast is None or cast.op_type != "Cast":
            continue
        (dequantize,) = node.outputs[0].consumers()
        scale = _initializer(graph, f"{cast.outputs[0].name}_scale", np.array(1.0, np.float32))
        zero = _initializer(graph, f"{cast.outputs[0].name}_zero_point", np.array(0, np.uint8))
        for index, value in enumerate((cast.inputs[0], scale, zero)):
            dequantize.replace_input_with(index, value)


def _make_unsigned(graph: ir.Graph) -> None:
    """Turn S8 activations into U8 with the same meaning."""
    for node in _quantizers(graph, ir.DataType.INT8):
        scale, zero = (value.const_value.numpy() for value in node.inputs[1:])
        _spell(graph, node, scale, (zero.astype(np.int16) + _SIGNED_TO_UNSIGNED).astype(np.uint8))


def _make_signed(graph: ir.Graph) -> None:
    """Turn U8 activations with zero point 0 into S8 with the same range above zero, in half the steps."""
    for node in _quantizers(graph, ir.DataType.UINT8):
        scale, zero = (value.const_value.numpy() for value in node.inputs[1:])
        _spell(graph, node, (scale * _UNSIGNED_STEPS / _SIGNED_STEPS).astype(np.float32), zero.astype(np.int8))


def _quantizers(graph: ir.Graph, dtype: ir.DataType) -> list[ir.Node]:
    return [node for node in graph if node.op_type == "QuantizeLinear" and node.inputs[2].dtype == dtype]


def _spell(graph: ir.Graph, quantize: ir.Node, scale: NDArray[np.float32], zero: NDArray[Any]) -> None:
    """Give a QuantizeLinear and the DequantizeLinear after it another scale, zero point and type."""
    (quantized,) = quantize.outputs
    quantized.type = ir.TensorType(ir.DataType.from_numpy(zero.dtype))
    inputs = [
        _initializer(graph, f"{quantized.name}_scale", scale),
        _initializer(graph, f"{quantized.name}_zero_point", zero),
    ]
    for node in (quantize, *quantized.consumers()):
        for index, value in enumerate(inputs, start=1):
            node.replace_input_with(index, value)


def _initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
    graph.register_initializer(value)
    return value


def _import_nncf() -> Any:
    try:
        return import_private("nncf")
    except ImportError as error:
        raise MissingExtraError("Quantizing images", "nncf", "export") from error
