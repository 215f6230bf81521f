"""fp32 → int8 (QDQ) of the image graph, calibrated by NNCF, in one spelling for processors and one for TensorRT.

NNCF places the quantizers and rounds the weights. The ranges and what else is known of the calibration images come of
one pass over them (`export.precision.image_statistics`), whatever is then left in float, in both spellings: NNCF would
run the graph on all of them for each. What it gets wrong for this graph is put right before or after:

* The means and norms at the end stay in float: quantized, the embeddings would not have unit norm. So does the last
  convolution, which has 0.02 % of the multiplications.
* Biases are corrected for the rounding of the weights, see `_correct_biases`. NNCF's own fast correction feeds a layer
  the mean of each channel, as if it were the same all over the image. Near the borders, which are padded with zeros
  and often black, it is not; on a trained model that made the embeddings worse than no correction.
* Ranges are the smallest and the largest value of all images, not the mean over images of these, which NNCF takes by
  default.
* The pixels are 8-bit integers already: on processors they enter the first convolution as they are, with scale 1.
* A first convolution of one channel takes the pixels in squares of four, see `export.precision.stem`.
* On processors all activations are U8: U8 × S8 is fast everywhere. NNCF gives those with a negative part (the inputs of
  residual additions) S8, which says the same with a zero point lower by 128.
* TensorRT wants int8 with zero point 0. There the first convolution stays in float: pixels would lose their lowest bit,
  and with one input channel integers have no advantage on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
from export.precision.image_statistics import collect_image_statistics
from export.precision.stem import fold_grey_stem
from runtime.engines import choose_provider
from runtime.errors import MissingExtraError
from runtime.process import import_private

__all__ = ["ImageQuantizer", "image_layers"]

# Weights from this size on go to the external file, as in `export.graphs.graph`.
_EXTERNAL_BYTES = 1024
# What may have quantized inputs; all other operators of the graph prepare pixels or finish embeddings.
_QUANTIZED_OPERATORS = frozenset({"Add", "Conv", "MaxPool", "Relu"})
_UNSIGNED_STEPS, _SIGNED_STEPS = 255, 127
# What a quantizer of a tensor that is always 0 gets.
_LEAST_RANGE = 1e-4


def image_layers(source: Path) -> list[str]:
    """Names of the nodes that `quantize_image` quantizes, in the graph's order: all convolutions but the last.

    Args:
        source: the fp32 graph.
    """
    return [str(node.name) for node in _convolutions(ir.load(source).graph)][:-1]


class ImageQuantizer:
    """Writes int8 graphs of one image encoder: weights S8 per output channel, activations per tensor."""

    def __init__(
        self,
        source: Path,
        spec: GraphSpec,
        pixels: NDArray[np.uint8],
        progress: Callable[[float], None] = lambda share: None,
    ) -> None:
        """Run the fp32 graph on the calibration images.

        Args:
            source: the fp32 graph, as written by `export_graph`.
            spec: names and axes.
            pixels: uint8 (N, …) as the graph reads them, to calibrate with.
            progress: takes the share done, 0 to 1.

        Raises:
            MissingExtraError: NNCF is not installed.
            ProviderError: nor is ONNX Runtime, with which NNCF works.
        """
        engine = choose_provider("cpu")[0]
        self._source, self._spec = source, spec
        self._one = pixels[:1]
        with quiet():
            self._nncf = _import_nncf()
        self._statistics = collect_image_statistics(source, spec, pixels, _QUANTIZED_OPERATORS, engine, progress)

    def write(self, target: Path, *, symmetric: bool = False, keep: Collection[str] = ()) -> GraphInfo:
        """Write one int8 graph.

        Args:
            target: the .onnx file to write; the weights go beside it, to `<stem>.onnx_data`.
            symmetric: S8 activations with zero point 0 for TensorRT, instead of U8 for processors.
            keep: nodes of `image_layers` to leave in float.

        Raises:
            GraphError: `keep` names something else, or the result fails `check_graph`.
        """
        source = self._source
        if target.resolve() == source.resolve():
            raise GraphError(f"{target} is the graph to quantize; name another file to write.")
        layers = image_layers(source)
        if unknown := sorted(set(keep) - set(layers)):
            raise GraphError(f"{source.name} has no layers {', '.join(unknown)} to keep; see image_layers().")
        skipped = {*keep, layers[0]} if symmetric else set(keep)
        with quiet():
            proto = _quantize(self._nncf, onnx.load(source), self._spec, self._one, skipped, symmetric)
        model = ir.from_proto(proto)
        _correct_biases(source, model, self._statistics.means)
        if not symmetric:
            _feed_pixels(model.graph)
        _set_ranges(model.graph, self._statistics.ranges, symmetric)
        if not symmetric:
            fold_grey_stem(model.graph)
        RemoveUnusedNodesPass()(model)
        ClearMetadataAndDocStringPass()(model)
        ir.save(model, target, external_data=f"{target.stem}.onnx_data", size_threshold_bytes=_EXTERNAL_BYTES)
        return check_graph(target, self._spec)


def _convolutions(graph: ir.Graph) -> list[ir.Node]:
    return [node for node in graph if node.op_type == "Conv"]


def _quantize(
    nncf: Any,
    model: onnx.ModelProto,
    spec: GraphSpec,
    pixels: NDArray[np.uint8],
    keep: Collection[str],
    symmetric: bool,
) -> onnx.ModelProto:
    """NNCF's graph; the ranges of its activations are those of `pixels`."""
    (input_name,) = spec.inputs
    others = {node.name for node in model.graph.node if node.op_type not in _QUANTIZED_OPERATORS}
    last = [node.name for node in model.graph.node if node.op_type == "Conv"][-1]
    return nncf.quantize(
        model,
        nncf.Dataset(list(pixels), lambda image: {input_name: image[None]}),
        preset=nncf.QuantizationPreset.PERFORMANCE if symmetric else nncf.QuantizationPreset.MIXED,
        subset_size=len(pixels),
        ignored_scope=nncf.IgnoredScope(names=sorted({*others, *keep, last})),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            disable_bias_correction=True,
            activations_range_estimator_params=nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX,
        ),
    )


def _correct_biases(source: Path, model: ir.Model, means: Mapping[str, NDArray[np.float32]]) -> None:
    """Subtract from each bias what rounding the weights adds to the output on average.

    A convolution is linear, so its mean output over all images and positions is that of the mean image.
    """
    original = {node.name: node for node in _convolutions(ir.load(source).graph)}
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
        bias = -shift.mean((0, 2, 3)).numpy()
        if len(before.inputs) > 2:
            bias += before.inputs[2].const_value.numpy()
        node.resize_inputs(3)
        node.replace_input_with(2, _initializer(model.graph, f"{node.name}_corrected_bias", bias))


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


def _set_ranges(graph: ir.Graph, ranges: Mapping[str, tuple[float, float]], symmetric: bool) -> None:
    """Give the quantizers of activations the ranges of all images, and 0 an exact place in them."""
    for node in [node for node in graph if node.op_type == "QuantizeLinear"]:
        low, high = ranges[str(node.inputs[0].name)]
        low, high = min(low, 0.0), max(high, 0.0, _LEAST_RANGE)
        if symmetric:
            scale, zero = max(-low, high) / _SIGNED_STEPS, np.array(0, np.int8)
        else:
            place = round(-low / (high - low) * _UNSIGNED_STEPS)
            # The wider of both sides decides, so that neither is clipped.
            sides = [(high, _UNSIGNED_STEPS - place), (-low, place)]
            scale, zero = max(side / steps for side, steps in sides if steps), np.array(place, np.uint8)
        _spell(graph, node, np.array(scale, np.float32), zero)


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
