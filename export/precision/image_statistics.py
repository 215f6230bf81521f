"""What an image graph's tensors look like on calibration images: ranges and means, from one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.graphs import GraphSpec
from export.graphs.watch import opened_beside
from runtime.engines import Provider

__all__ = ["ImageStatistics", "collect_image_statistics"]


@dataclass(frozen=True)
class ImageStatistics:
    """Of all images together.

    Attributes:
        ranges: tensor → its smallest and its largest value.
        means: what a convolution reads → its mean over the images, float32 (1, channels, rows, columns).
    """

    ranges: Mapping[str, tuple[float, float]]
    means: Mapping[str, NDArray[np.float32]]


def collect_image_statistics(
    source: Path,
    spec: GraphSpec,
    pixels: NDArray[np.uint8],
    operators: Iterable[str],
    engine: Provider,
    progress: Callable[[float], None] = lambda share: None,
) -> ImageStatistics:
    """Run the fp32 graph on calibration images; the engine reduces, so that no large tensor leaves it.

    Args:
        source: the fp32 graph, with its weights beside it.
        spec: its names.
        pixels: uint8 (N, …) as the graph reads them.
        operators: types of the nodes around which tensors are watched: all that they read and write.
        engine: what runs it.
        progress: called with the share done.

    Raises:
        ProviderError: the engine cannot open the graph.
    """
    model = onnx.load(str(source), load_external_data=False)
    (input_name,) = spec.inputs
    constants = {tensor.name for tensor in model.graph.initializer}
    watched, wanted = list(model.graph.node), set(operators)
    ranged = dict.fromkeys(
        name
        for node in watched
        if node.op_type in wanted
        for name in (*node.input, *node.output)
        if name and name not in constants
    )
    averaged = dict.fromkeys(node.input[0] for node in watched if node.op_type == "Conv")
    del model.graph.output[:]
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "images_axis"))
    reduced: dict[str, tuple[str, str]] = {}
    for kind, names, rest in (
        ("ReduceMin", ranged, []),
        ("ReduceMax", ranged, []),
        ("ReduceMean", averaged, ["images_axis"]),
    ):
        for name in names:
            output = f"{name}:{kind}"
            reduced[output] = (kind, name)
            model.graph.node.append(helper.make_node(kind, [name, *rest], [output], output, keepdims=len(rest)))
            model.graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    extremes: dict[str, list[float]] = defaultdict(list)
    sums: dict[str, NDArray[np.float32]] = {}
    with opened_beside(source, model, engine) as session:
        # One at a time: several take as long an image, and several times the memory.
        for index, image in enumerate(pixels):
            found = session.run(list(reduced), {input_name: image[None]})
            for (kind, name), value in zip(reduced.values(), found, strict=True):
                if kind == "ReduceMean":
                    sums[name] = sums.get(name, 0) + value
                else:
                    extremes[name].append(float(value))
            progress((index + 1) / len(pixels))
    return ImageStatistics(
        {name: (min(values), max(values)) for name, values in extremes.items()},
        {name: total / np.float32(len(pixels)) for name, total in sums.items()},
    )
