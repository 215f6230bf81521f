"""How much there is to compute, by the models as they are published."""

from __future__ import annotations

import json

from runtime.bundle import Bundle

__all__ = ["image_operations", "resnet_operations", "token_operations"]

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
    """Operations per image of BioViL's model; 0 for a bundle without images or of another size."""
    image = bundle.manifest.image
    return resnet_operations() if image is not None and image.preprocessing.crop == _CROP else 0.0


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
