"""How much there is to compute, by the models as they are published."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from runtime.bundle import Bundle

__all__ = ["image_operations", "resnet_operations", "token_operations", "vit_operations"]

_CROP = 480


def token_operations(bundle: Bundle) -> float:
    """Operations per token of BERT's layers: 2 × the weights that it is multiplied with.

    The products of attention, which grow with the length of the text, and the heads are not counted.
    """
    config = json.loads((bundle.path("text") / "config.json").read_text(encoding="utf-8"))
    hidden: int = config["hidden_size"]
    inner: int = config["intermediate_size"]
    layers: int = config["num_hidden_layers"]
    return 2.0 * layers * (4 * hidden * hidden + 2 * hidden * inner)


def image_operations(bundle: Bundle) -> float:
    """Operations per image of the image tower; 0 for a bundle without images, or of an architecture or size whose
    operations are not known.
    """
    image = bundle.manifest.image
    return _ARCHITECTURES.get(image.architecture, _unknown)(bundle) if image is not None else 0.0


def _unknown(bundle: Bundle) -> float:
    return 0.0


def _of_biovil(bundle: Bundle) -> float:
    return resnet_operations() if bundle.image_part().preprocessing.crop == _CROP else 0.0


def vit_operations(bundle: Bundle) -> float:
    """Operations per image of a vision transformer: 2 × the weights, by the tokens that they are multiplied with.

    As for texts, the products of attention are not counted. The weights are counted in the fp32 graph, whose last layer
    has all of them though it computes the class token alone.
    """
    import onnx

    image = bundle.image_part()
    assert image.grid is not None, "vision transformers have patches"
    graph = onnx.load(bundle.path(bundle.artifact("image", "fp32").file), load_external_data=False).graph
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    patches, weights, last = image.grid**2, 0, 0
    products = 0.0
    for node in graph.node:
        for name in node.input[1:2]:
            size = math.prod(shapes.get(name, ()))
            if node.op_type == "Conv":
                products += patches * size
            elif node.op_type in ("MatMul", "Gemm") and len(shapes.get(name, ())) == 2:
                weights, last = weights + last, size
    # The last one is the projection, of the class token.
    return 2.0 * (products + (patches + 1) * weights + last)


def resnet_operations() -> float:
    """Operations of ResNet-50 at 480 × 480 on three channels with BioViL's projector: 2 × its products."""
    products = 240 * 240 * 64 * 3 * 49
    side, inputs = 120, 64
    for index, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            products += side * side * inputs * width
            if block == 0 and index > 0:
                side //= 2
            products += side * side * (9 * width * width + 4 * width * width)
            if block == 0:
                products += side * side * inputs * 4 * width
            inputs = 4 * width
    products += side * side * (2048 * 128 + 128 * 128)
    return 2.0 * products


_ARCHITECTURES: Mapping[str, Callable[[Bundle], float]] = MappingProxyType(
    {"resnet50": _of_biovil, "vit": vit_operations}
)
