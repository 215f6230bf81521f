"""The image part of a bundle: its graph in every precision asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from export.graphs import GraphInfo, GraphSpec, export_graph
from export.graphs.image_rewrites import ImageEmbeddingGraph
from export.graphs.resnet_heads import HEADS, ResNetHeadsGraph
from export.graphs.vit_faces import embedding_spec, export_vit
from export.parts.image_faces import PatchFaces
from export.precision import Lowering
from export.precision.floats import float_artifacts
from export.precision.int8_image import ImageQuantizer, image_layers
from export.precision.lower import artifact, fp32_stays
from export.precision.misses import Asked, Misses
from export.precision.rivals import find_rivals
from export.precision.search import Candidate, Deadline, Form, Setting, search
from export.progress import Steps
from export.proof import Judge, check_gates, working_engines
from export.proof.fidelity import IMAGE_OUTPUTS, embed_images
from export.proof.held_out import held_out_images
from export.proof.image_parity import image_parity
from export.proof.judge import image_judge, reference_noise
from export.proof.zero_shot import ZeroShot
from export.reference import ImageReference
from export.samples import ImageData
from runtime.bundle import Artifact
from runtime.bundle.parts import ImagePart
from runtime.engines import PROVIDERS, Provider, SessionOptions
from runtime.engines.providers import default_threads

__all__ = ["export_image"]

_BATCH = 4
# Calibration images with which fp16 looks for activations beyond its range.
_OVERFLOW_IMAGES = 16
# Convolutions left in floating point, in the order of the trials: (from the start, from the end). The last one always
# is.
_KEPT = ((0, 0), (1, 0), (1, 4), (1, 11), (11, 11), (20, 20))


def export_image(
    reference: ImageReference,
    folder: Path,
    engine: Provider,
    lowering: Lowering,
    data: ImageData | None,
    seed: int,
    misses: Misses,
    steps: Steps,
    zero_shot: ZeroShot | None = None,
) -> ImagePart:
    """Export the image encoder to `folder`/onnx and check every artifact.

    Args:
        reference: upstream's model.
        folder: the bundle's image folder.
        engine: compares fp32 with PyTorch.
        lowering: precisions asked for.
        data: prepared pixels to calibrate with and to judge by; needed for every precision but fp32.
        seed: of the parity inputs.
        misses: leaves out lower precisions that miss a gate.
        steps: where progress is shown.
        zero_shot: measures the change of zero-shot classification as well; None where no labelled images were given.

    Raises:
        GraphError: an exported graph is not portable.
        GateError: fp32 misses a gate, or another precision and nothing may be left out.
    """
    rule = reference.rule
    source = folder / "onnx" / "model.onnx"
    source.parent.mkdir()
    with steps.step("image: exporting the graph"):
        graph, info = _export_graph(reference, source)
    outputs = tuple(name for name in IMAGE_OUTPUTS if name in graph.outputs)
    with steps.step("image: comparing with PyTorch") as advance:
        session = engine.open(source, SessionOptions(threads=default_threads(), precision="fp32"))
        parity = image_parity(session, engine.name, "fp32", reference, seed, advance, outputs=outputs)
        check_gates("image fp32", [parity])
        del session
    fp32 = artifact("image/onnx/model.onnx", "fp32", info, tuple(PROVIDERS), parity=(parity,))
    artifacts, judge = [fp32], None
    if data is not None:
        with steps.step("image: embedding the held-out images, some with PyTorch") as advance:
            session = engine.open(source, SessionOptions(threads=default_threads(), precision="fp32"))
            expected, compared = held_out_images(session, engine.name, reference, data.held_out, outputs, advance)
            del session
            fp32 = replace(fp32, parity=(parity, compared))
            held_out, engines = data.held_out, working_engines(source)
            noise = reference_noise(
                source,
                engines,
                engine.name,
                lambda session: embed_images(session, held_out, IMAGE_OUTPUTS[:1])[0],
                expected[0],
            )
            extra, digest = zero_shot.image_figures if zero_shot else None, data.record.held_out_sha256
            judge = image_judge(expected, held_out, digest, engines, noise, engine.name, extra)
        pixels = data.calibration[:_OVERFLOW_IMAGES]
        artifacts = float_artifacts(
            "image",
            source,
            graph,
            fp32,
            judge,
            ({"pixel_values": pixels[start : start + _BATCH]} for start in range(0, len(pixels), _BATCH)),
            lambda session, name, precision: image_parity(session, name, precision, reference, seed, outputs=outputs),
            lowering,
            misses,
            steps,
            bf16_graph=False,
        )
        if "int8" in lowering.precisions:
            artifacts += _int8_artifacts(artifacts, folder.parent, graph, judge, data, lowering, misses, steps)
    if "patch_embeds" not in outputs and reference.grid is not None:
        engines = judge.engines if judge else (engine,)
        artifacts = PatchFaces(reference, folder.parent, engines, seed, misses, steps).of(artifacts)
    if not fp32_stays([each for each in artifacts if each.precision != "fp32"], misses.of("image"), lowering):
        for name in {name for each in artifacts if each.precision == "fp32" for name in each.files}:
            (folder.parent / name).unlink()
        artifacts = [each for each in artifacts if each.precision != "fp32"]
    return ImagePart(
        architecture=reference.architecture,
        preprocessing=rule,
        images=reference.images,
        grid=reference.grid,
        embedding_size=reference.size,
        artifacts=tuple(artifacts),
    )


def _export_graph(reference: ImageReference, source: Path) -> tuple[GraphSpec, GraphInfo]:
    """Write the fp32 graph that embeds pictures; that of a ResNet embeds patches as well, at no cost."""
    rule, grid, size = reference.rule, reference.grid, reference.size
    if reference.architecture == "vit":
        graph = embedding_spec(size, rule.shape)
        return graph, export_vit(reference, source, graph)
    heads = reference.architecture in HEADS
    outputs: dict[str, tuple[str | int, ...]] = {"image_embeds": ("batch", size)}
    if grid is not None:
        outputs["patch_embeds"] = ("batch", grid, grid, size)
    if grid is not None and heads:
        outputs["patch_norms"] = ("batch", grid, grid)
    graph = GraphSpec(inputs={"pixel_values": ("batch", *rule.shape)}, outputs=outputs, limits={"batch": None})
    module: torch.nn.Module
    if heads:
        module = ResNetHeadsGraph(reference.model, rule)
    else:
        module = ImageEmbeddingGraph(reference.model, rule, patches=grid is not None)
    pixels = torch.randint(0, 256, (2, *rule.shape), dtype=torch.uint8)
    return graph, export_graph(module.eval().requires_grad_(False), (pixels,), graph, source)


def _int8_artifacts(
    floats: Sequence[Artifact],
    bundle: Path,
    graph: GraphSpec,
    judge: Judge,
    data: ImageData,
    lowering: Lowering,
    misses: Misses,
    steps: Steps,
) -> list[Artifact]:
    """Quantize the fp32 graph, the first of `floats`, in the spellings asked for."""
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
