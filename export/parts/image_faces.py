"""The other faces of image graphs, which read the same weights: the patches of a vision transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.graphs.vit_faces import patches_artifact, patches_spec
from export.precision.misses import Asked, Misses
from export.progress import Steps
from export.proof import check_gates
from export.proof.image_parity import image_parity
from export.reference import ImageReference
from runtime.bundle import Artifact
from runtime.engines import Provider, SessionOptions
from runtime.engines.providers import default_threads

__all__ = ["PatchFaces"]


@dataclass(frozen=True)
class PatchFaces:
    """Makes the graphs that embed patches, and compares each with PyTorch.

    Attributes:
        reference: upstream's model, a vision transformer.
        bundle: the folder that files are named from.
        engines: those that compare.
        seed: of the pixels.
        misses: leaves out the precisions whose faces miss a gate.
        steps: where progress is shown.
    """

    reference: ImageReference
    bundle: Path
    engines: tuple[Provider, ...]
    seed: int
    misses: Misses
    steps: Steps

    def of(self, plain: Sequence[Artifact]) -> list[Artifact]:
        """Graphs that embed pictures, each with its twin for patches, or neither.

        Raises:
            GateError, GraphError, ProviderError: a face of fp32 misses, or of another precision and nothing may be left
                out.
        """
        kept: list[Artifact] = []
        with self.steps.step("image: embedding patches, compared with PyTorch") as advance:
            for index, each in enumerate(plain):
                with self.misses.leaving_out(Asked.of("image", each), made=set(each.files)):
                    kept += [each, self._twin(each)]
                advance((index + 1) / len(plain))
        return kept

    def _twin(self, plain: Artifact) -> Artifact:
        reference = self.reference
        assert reference.grid is not None, "vision transformers have patches"
        spec = patches_spec(reference.size, reference.rule.shape, reference.grid)
        twin = patches_artifact(plain, self.bundle, spec)
        options = SessionOptions(threads=default_threads(), precision=plain.precision)
        records = [
            image_parity(
                engine.open(self.bundle / twin.file, options), engine.name, plain.precision, reference, self.seed
            )
            for engine in self.engines
            if engine.name in twin.providers and engine.refuses(plain.precision) is None
        ]
        check_gates(f"image {plain.precision}, patches", records)
        return replace(twin, parity=tuple(records))
