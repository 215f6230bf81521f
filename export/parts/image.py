"""The image part of a bundle: its graph in every precision asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from export.graphs import GraphInfo, GraphSpec, export_graph
from export.graphs.image_pairs import current_image_graph
from export.graphs.image_rewrites import ImageEmbeddingGraph
from export.graphs.resnet_heads import HEADS, ResNetHeadsGraph
from export.graphs.vit_faces import embedding_spec, export_vit
from export.parts.image_faces import PatchFaces
from export.parts.pair_faces import PairFaces
from export.precision import Lowering
from export.precision.floats import float_artifacts
from export.precision.lower import artifact, fp32_stays
from export.precision.misses import Misses
from export.precision.recipes import IMAGE_RECIPES
from export.progress import Steps
from export.proof import check_gates, working_engines
from export.proof.fidelity import IMAGE_OUTPUTS, embed_images
from export.proof.held_out import held_out_images
from export.proof.image_parity import image_parity
from export.proof.judge import image_judge, reference_noise
from export.proof.zero_shot import ZeroShot
from export.reference import ImageReference
from export.samples import ImageData
from runtime.bundle.parts import ImagePart
from runtime.engines import PROVIDERS, Provider, SessionOptions
from runtime.engines.providers import default_threads

__all__ = ["export_image"]

_BATCH = 4
# Calibration images with which fp16 looks for activations beyond its range.
_OVERFLOW_IMAGES = 16


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
    artifacts, judge, noise = [fp32], None, None
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
        if "int8" in lowering.precisions or "int8-dynamic" in lowering.precisions:
            quantize = IMAGE_RECIPES[reference.architecture]
            artifacts += quantize(artifacts, folder.parent, graph, judge, data, lowering, misses, steps)
    if "patch_embeds" not in outputs and reference.grid is not None:
        engines = judge.engines if judge else (engine,)
        faces = PatchFaces(reference, folder.parent, engines, seed, lowering, data, noise, misses, steps)
        artifacts = faces.of(artifacts)
    if reference.images > 1:
        artifacts = PairFaces(reference, folder.parent, graph, engine, data, seed, misses, steps).of(artifacts)
    others = [each for each in artifacts if each.precision != "fp32"]
    if not fp32_stays(others, misses.of("image"), lowering):
        dropped = {name for each in artifacts if each.precision == "fp32" for name in each.files}
        for name in dropped - {name for each in others for name in each.files}:
            (folder.parent / name).unlink()
        artifacts = others
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
    elif reference.images > 1:
        module = current_image_graph(reference.model, rule)
    else:
        module = ImageEmbeddingGraph(reference.model, rule, patches=grid is not None)
    pixels = torch.randint(0, 256, (2, *rule.shape), dtype=torch.uint8)
    return graph, export_graph(module.eval().requires_grad_(False), (pixels,), graph, source)
