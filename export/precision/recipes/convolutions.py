"""int8 of convolutional image encoders: which convolutions stay in floating point, and the search among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from export.graphs import GraphInfo, GraphSpec
from export.precision.int8_image import ImageQuantizer, image_layers
from export.precision.lower import Lowering, artifact
from export.precision.misses import Asked, Misses
from export.precision.rivals import find_rivals
from export.precision.search import Candidate, Deadline, Form, Setting, search
from export.progress import Steps
from export.proof import Judge
from export.samples import ImageData
from runtime.bundle import Artifact

__all__ = ["convolution_artifacts"]

# Convolutions left in floating point, in the order of the trials: (from the start, from the end). The last one always
# is.
_KEPT = ((0, 0), (1, 0), (1, 4), (1, 11), (11, 11), (20, 20))


def convolution_artifacts(
    floats: Sequence[Artifact],
    bundle: Path,
    graph: GraphSpec,
    judge: Judge,
    data: ImageData,
    lowering: Lowering,
    misses: Misses,
    steps: Steps,
) -> list[Artifact]:
    """Quantize the fp32 graph of convolutions, the first of `floats`, in the spellings asked for.

    Weights alone have no recipe here: nothing is made of "int8-dynamic". Arguments and errors are those of
    `export.precision.recipes.vit.vit_artifacts`.
    """
    if "int8" not in lowering.precisions:
        return []
    source = bundle / floats[0].file
    asked = [(Asked("image", "int8", "image/onnx/model_int8.onnx", ("cpu", "openvino", "cuda")), False)]
    if lowering.tensorrt:
        asked.append((Asked("image", "int8", "image/onnx/model_int8_tensorrt.onnx", ("tensorrt",)), True))
    made: list[Artifact] = []
    quantizer: ImageQuantizer | None = None
    with (
        steps.step("image: watching the calibration images") as advance,
        misses.leaving_out(*(each for each, _ in asked)),
    ):
        quantizer = ImageQuantizer(source, graph, data.calibration, advance)
    if quantizer is None:
        return made
    deadline = Deadline(lowering.search_minutes)
    setting = Setting("image", judge, lowering, steps, find_rivals(floats, bundle), deadline)
    for each, symmetric in asked:
        what = f"image: int8 for {', '.join(each.providers)} at tier {lowering.tier}"
        with steps.step(what, deadline), misses.leaving_out(each):
            form = _recipes(quantizer, image_layers(source), symmetric, each.providers)
            _, info, recipe, records = search([form], bundle / each.file, "int8", setting)
            made.append(artifact(each.file, "int8", info, each.providers, fidelity=records, recipe=recipe))
    return made


def _recipes(quantizer: ImageQuantizer, layers: list[str], symmetric: bool, providers: tuple[str, ...]) -> Form:
    """From cheap to dear: the first and last convolutions, where errors weigh most, stay in floating point."""
    tried: dict[tuple[str, ...], None] = {}
    for first, last in _KEPT:
        keep = tuple(layers[:first] + layers[max(first, len(layers) - last) :])
        if len(keep) < len(layers):
            tried[keep] = None

    def make(keep: tuple[str, ...]) -> Candidate:
        described = f", {len(keep)} of {len(layers)} convolutions in floating point" if keep else ""

        def write(target: Path) -> GraphInfo:
            return quantizer.write(target, symmetric=symmetric, keep=keep)

        settings = {"form": "symmetric" if symmetric else "asymmetric", "floating_point": ", ".join(keep)}
        return Candidate(f"static int8{', symmetric' if symmetric else ''}{described}", settings, write, providers)

    return [partial(make, keep) for keep in tried]
