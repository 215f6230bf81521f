"""The other face of graphs of single images, which reads the same weights: a current image with a previous one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.graphs import GraphSpec
from export.graphs.pair_faces import (
    PAIR_INPUTS,
    Comparison,
    export_comparison,
    pair_artifact,
    pair_file,
    pair_spec,
    share_with_single,
    write_pair_graph,
)
from export.precision.floats import refuse_missed
from export.precision.half import HALF_PRECISIONS, convert_half, find_overflowing
from export.precision.misses import Asked, Misses
from export.progress import Steps
from export.proof import Judge, check_gates, working_engines
from export.proof.fidelity import embed_images, other_images
from export.proof.held_out import held_out_images
from export.proof.image_parity import image_parity
from export.proof.judge import image_judge, reference_noise
from export.proof.parity import GATES
from export.reference import ImageReference
from export.samples import ImageData
from runtime.bundle import Artifact, FidelityRecord, ParityRecord
from runtime.engines import PROVIDERS, Provider, SessionOptions
from runtime.engines.providers import default_threads

__all__ = ["PairFaces"]

# Pairs of calibration images with which fp16 looks for activations beyond its range, and of a call.
_OVERFLOW_PAIRS, _BATCH = 16, 2


@dataclass
class PairFaces:
    """Makes the graphs of pairs, compares each with PyTorch, and measures it as the graph of single images was.

    Attributes:
        reference: upstream's model, which compares images.
        bundle: the folder that files are named from.
        single: names and axes of the graphs of single images.
        engine: compares fp32 with PyTorch.
        data: prepared pixels to calibrate with and to judge by; None where only fp32 is made.
        seed: of the parity inputs.
        misses: leaves out the precisions whose faces miss a gate.
        steps: where progress is shown.
    """

    reference: ImageReference
    bundle: Path
    single: GraphSpec
    engine: Provider
    data: ImageData | None
    seed: int
    misses: Misses
    steps: Steps

    def of(self, plain: Sequence[Artifact]) -> list[Artifact]:
        """Graphs of single images, each with that of pairs, or neither.

        Args:
            plain: fp32 first.

        Raises:
            GateError, GraphError, ProviderError: a face of fp32 misses, or of another precision and nothing may be left
                out.
        """
        kept: list[Artifact] = []
        judge: Judge | None = None
        source = self.bundle / plain[0].file
        grid = self.reference.grid
        assert grid is not None, "models that compare images have patches"
        with self.steps.step("image: exporting what compares images"):
            comparison = export_comparison(self.reference.model, grid, source.parent)
        for each in plain:
            with (
                self.steps.step(f"image: pairs of images in {each.precision}"),
                self.misses.leaving_out(Asked.of("image", each), made=set(each.files)),
            ):
                pair = self._written(each, source, comparison)
                if each.precision == "fp32" and self.data is not None:
                    judge, compared = self._judge(pair, self.data)
                    pair = replace(pair, parity=(*pair.parity, compared))
                single, pair = self._measured(each, pair, judge) if judge else (each, pair)
                kept += [single, pair]
        return kept

    def _written(self, single: Artifact, source: Path, comparison: Comparison) -> Artifact:
        """The graph of pairs, compared with PyTorch on fixed cases where floating point is."""
        path, target = self.bundle / single.file, self.bundle / pair_file(single.file)
        spec = pair_spec(self.single)
        if single.precision in HALF_PRECISIONS:
            converted = source.with_name(Path(pair_file(source.name)).name)
            keep = find_overflowing(converted, self._feeds(), self.engine)
            convert_half(converted, target, spec, single.precision, keep)
            info = share_with_single(target, path, spec)
        else:
            info = write_pair_graph(path, target, comparison, spec)
        pair = pair_artifact(single, self.bundle, info)
        if single.precision not in GATES:
            return pair
        engine = self.engine if self.engine.name in single.providers else PROVIDERS[single.parity[0].provider]
        session = engine.open(target, SessionOptions(threads=default_threads(), precision=single.precision))
        parity = image_parity(session, engine.name, single.precision, self.reference, self.seed, paired=True)
        check_gates(f"image {single.precision}, pairs", [parity])
        return replace(pair, parity=(parity,))

    def _feeds(self) -> list[dict[str, NDArray[np.uint8]]]:
        assert self.data is not None, "there is data for every precision but fp32"
        pixels = self.data.calibration[:_OVERFLOW_PAIRS]
        before = other_images(pixels)
        return [
            dict(zip(PAIR_INPUTS, (each[start : start + _BATCH] for each in (pixels, before)), strict=True))
            for start in range(0, len(pixels), _BATCH)
        ]

    def _judge(self, pair: Artifact, data: ImageData) -> tuple[Judge, ParityRecord]:
        """A judge by held-out images, each with another one of them as its previous image."""
        pixels, previous, source = data.held_out, other_images(data.held_out), self.bundle / pair.file
        session = self.engine.open(source, SessionOptions(threads=default_threads(), precision="fp32"))
        outputs = tuple(self.single.outputs)
        expected, compared = held_out_images(
            session, self.engine.name, self.reference, pixels, outputs, previous=previous
        )
        del session
        engines = working_engines(source)
        noise = reference_noise(
            source,
            engines,
            self.engine.name,
            lambda session: embed_images(session, pixels, outputs[:1], previous)[0],
            expected[0],
        )
        digest = data.record.held_out_sha256
        judge = image_judge(expected, pixels, digest, engines, noise, self.engine.name, previous=previous)
        return judge, compared

    def _measured(self, single: Artifact, pair: Artifact, judge: Judge) -> tuple[Artifact, Artifact]:
        """Both, the graph of pairs measured where that of single images was, by the same gates.

        What an engine computes in another precision than the artifact's is left out alone, of both.
        """
        records: dict[tuple[str, str], FidelityRecord] = {}
        for each in single.fidelity:
            asked = Asked("image", each.precision, pair.file, (each.provider,))
            if each.precision != single.precision:
                with self.misses.leaving_out(asked):
                    records[each.provider, each.precision] = self._record(each, pair, judge)
            else:
                records[each.provider, each.precision] = self._record(each, pair, judge)
        both = tuple(each for each in single.fidelity if (each.provider, each.precision) in records)
        return replace(single, fidelity=both), replace(pair, fidelity=tuple(records.values()))

    def _record(self, single: FidelityRecord, pair: Artifact, judge: Judge) -> FidelityRecord:
        engine = PROVIDERS[single.provider]
        record = judge.record(engine, self.bundle / pair.file, single.precision, single.gates)
        refuse_missed([record], f"image {single.precision}, pairs")
        return record
