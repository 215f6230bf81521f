"""int8 of vision transformers: the recipes of texts, calibrated with images.

The statistics are those of all tokens, in the last layer too, where the graph that embeds pictures computes the class
token alone: its twin, which embeds patches as well, reads the same weights. Calibrated with the class token alone, its
patches lose a hundred times as much (small trained CLIP: mean cosine 0.9987 instead of 0.99999), and the class token
gains nothing, nor where its rows count as much as those of all patches (centred cosine 0.99997 or 0.99998 each time).

The convolution that makes tokens of patches stays in floating point: it has one multiplication in 144 of ViT-B's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from export.graphs import GraphSpec
from export.graphs.vit_faces import all_tokens_graph
from export.precision.int8 import TextQuantizer, find_groups
from export.precision.lower import Lowering
from export.precision.misses import Misses
from export.precision.recipes.ladder import Ladder, transformer_artifacts
from export.precision.recipes.ranking import ProductRanking
from export.precision.statistics import collect_statistics
from export.progress import Steps
from export.proof import Judge
from export.samples import ImageData
from runtime.bundle import Artifact

__all__ = ["vit_artifacts"]

_BATCH = 4
# Calibration images by which the products are ranked.
_RANKED = 4


def vit_artifacts(
    floats: Sequence[Artifact],
    bundle: Path,
    graph: GraphSpec,
    judge: Judge,
    data: ImageData,
    lowering: Lowering,
    misses: Misses,
    steps: Steps,
) -> list[Artifact]:
    """Quantize the fp32 graph of a vision transformer in the forms asked for.

    Args:
        floats: the part's artifacts in floating point, fp32 first: what is quantized, and must be slower.
        bundle: the folder that their files are named from.
        graph: names and axes of the graph that embeds pictures.
        judge: measures on held-out data.
        data: pixels to calibrate with.
        lowering: what was asked for.
        misses: leaves out what does not hold the tier.
        steps: where progress is shown.

    Raises:
        GateError, GraphError, ProviderError: one does not, cannot be made or run, and nothing may be left out.
    """
    source, pixels = bundle / floats[0].file, data.calibration

    def watch(advance: Callable[[float], None]) -> Ladder:
        changed = all_tokens_graph(source)
        tensors = [group.tensor for group in find_groups(changed)]
        feeds = [{"pixel_values": pixels[start : start + _BATCH]} for start in range(0, len(pixels), _BATCH)]
        (engine,) = judge.engines_for(("cpu",))
        statistics = collect_statistics(source, tensors, feeds, engine, advance, changed=changed)
        quantizer = TextQuantizer(source, graph, statistics)
        (engine,) = judge.engines_for(("openvino",))
        feed = {"pixel_values": pixels[:_RANKED]}
        return Ladder(quantizer, ProductRanking(quantizer, source, feed, "image_embeds", engine, steps))

    return transformer_artifacts("image", watch, floats, bundle, judge, lowering, misses, steps)
