"""The other faces of image graphs, which read the same weights: the patches of a vision transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.errors import GateError
from export.graphs.vit_faces import patches_artifact, patches_spec
from export.precision import Lowering
from export.precision.misses import Asked, Misses
from export.progress import Steps
from export.proof import Judge, check_gates, missed_gates
from export.proof.fidelity import HALF_GATES, TIERS, embed_images
from export.proof.image_parity import image_parity
from export.proof.judge import image_judge
from export.reference import ImageReference
from export.samples import ImageData
from runtime.bundle import Artifact, FidelityRecord
from runtime.engines import Provider, SessionOptions
from runtime.engines.providers import default_threads

__all__ = ["PatchFaces"]


@dataclass(frozen=True)
class PatchFaces:
    """Makes the graphs that embed patches, compares each with PyTorch, and lower precisions with fp32.

    Attributes:
        reference: upstream's model, a vision transformer.
        bundle: the folder that files are named from.
        engines: those that compare.
        seed: of the pixels.
        lowering: the tier, and whether it is enforced.
        data: the held-out pixels that lower precisions are measured with; None where there are none.
        tolerance: see `export.proof.fidelity.tie_tolerance`.
        misses: leaves out the precisions whose faces miss a gate.
        steps: where progress is shown.
    """

    reference: ImageReference
    bundle: Path
    engines: tuple[Provider, ...]
    seed: int
    lowering: Lowering
    data: ImageData | None
    tolerance: float | None
    misses: Misses
    steps: Steps

    def of(self, plain: Sequence[Artifact]) -> list[Artifact]:
        """Graphs that embed pictures, each with its twin for patches, or neither.

        Raises:
            GateError, GraphError, ProviderError: a face of fp32 misses, or of another precision and nothing may be left
                out.
        """
        kept: list[Artifact] = []
        judge: Judge | None = None
        with self.steps.step("image: embedding patches, compared with PyTorch") as advance:
            for index, each in enumerate(plain):
                with self.misses.leaving_out(Asked.of("image", each), made=set(each.files)):
                    twin = self._twin(each)
                    if each.precision == "fp32" and len(plain) > 1:
                        judge = self._judge(twin)
                    elif judge is not None:
                        twin = self._measured(twin, judge)
                    kept += [each, twin]
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

    def _judge(self, twin: Artifact) -> Judge | None:
        """By the fp32 twin, which has been compared with PyTorch; None where there is nothing to judge by."""
        if self.data is None:
            return None
        options, pixels = SessionOptions(threads=default_threads(), precision="fp32"), self.data.held_out
        expected = embed_images(self.engines[0].open(self.bundle / twin.file, options), pixels)
        return image_judge(expected, pixels, self.data.record.held_out_sha256, self.engines, self.tolerance)

    def _measured(self, twin: Artifact, judge: Judge) -> Artifact:
        """The twin with its fidelity, by the gates of the graph that it is made of.

        Raises:
            GateError: it misses one.
        """
        gates = TIERS[self.lowering.tier] if twin.precision.startswith("int8") else HALF_GATES
        records: list[FidelityRecord] = []
        for engine in judge.engines_for(twin.providers):
            model = self.bundle / twin.file
            records.append(judge.record(engine, model, twin.precision, gates if self.lowering.enforced else {}))
            found = records[-1]
            if missed := missed_gates(found.figures, found.gates):
                what = f"image {twin.precision}, patches on {found.provider}"
                lines = [f"{what}: {line} ({found.items} held-out items)" for line in missed]
                raise GateError(
                    "The export is not faithful enough to PyTorch", lines, required=found.gates, best=found.figures
                )
        return replace(twin, fidelity=tuple(records))
