"""Exported graphs as the manifest has them: files, tensors, and how each was checked."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Artifact", "FidelityRecord", "LeftOut", "ParityRecord", "Recipe", "TensorSpec", "Trial"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph: name, numpy dtype name, axes (a name means dynamic, a number fixed)."""

    name: str
    dtype: str
    axes: tuple[str | int, ...]


@dataclass(frozen=True)
class ParityRecord:
    """Figures of one comparison with the PyTorch reference.

    Attributes:
        provider: engine that ran the artifact.
        reference: what it was compared with.
        cases: what was run, in words (batch sizes, lengths).
        figures: name → value, such as max_abs and min_cosine.
        gates: name → largest value allowed (of figures named min_…: the smallest); others are reported only.
    """

    provider: str
    reference: str
    cases: str
    figures: dict[str, float]
    gates: dict[str, float]


@dataclass(frozen=True)
class FidelityRecord:
    """How far an artifact's embeddings are those of the PyTorch reference, on held-out data, on one engine.

    Attributes:
        provider: engine that ran the artifact.
        precision: what it computed in: the artifact's precision, or "bf16" for an fp32 artifact.
        processor: model name of the processor; int8 results differ between processors.
        items: number of held-out items; data is the sha256 of their contents.
        figures: name → value; see `export.proof.fidelity`.
        gates: name → smallest value allowed; empty where the figures are reported only.
        milliseconds: median time of one batch (8 × 64 tokens, or 4 images), with which precisions are compared.
    """

    provider: str
    precision: str
    processor: str
    items: int
    data: str
    figures: dict[str, float]
    gates: dict[str, float]
    milliseconds: float


@dataclass(frozen=True)
class Trial:
    """One recipe that the search tried, on one engine.

    Attributes:
        recipe: its name.
        provider: engine that ran it; empty where none did.
        figures: its fidelity; empty where it could not be measured, and then milliseconds is 0.
        milliseconds: median time of one batch.
        accepted: whether it was taken.
        verdict: why, or why not, in words; empty in bundles of before there was any.
    """

    recipe: str
    provider: str
    figures: dict[str, float]
    milliseconds: float
    accepted: bool
    verdict: str = ""


@dataclass(frozen=True)
class Recipe:
    """How an artifact was quantized.

    Attributes:
        name: the recipe in words.
        tier: "99" or "99.9".
        settings: what a quantizer needs to repeat it.
        trials: everything that was tried, in order.
    """

    name: str
    tier: str
    settings: dict[str, str]
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class LeftOut:
    """What was asked for and is not in the bundle, for it missed its gate.

    Attributes:
        part: "text" or "image".
        precision: as asked for; of bf16 that an engine computes from the fp32 graph, file is that graph.
        file: where it would be.
        providers: engines that it was meant for.
        tier: that int8 had to hold; None of other precisions.
        cause: "fidelity": its figures miss a gate; "speed": int8 is not faster than floating point; "time": the search
            was over before a recipe held; "error": it could not be written, or an engine could not run it.
        reason: in words.
        required: figure → bound.
        best: figures of what came nearest; empty where nothing was measured.
        trials: recipes that were tried, in order.
    """

    part: str
    precision: str
    file: str
    providers: tuple[str, ...]
    tier: str | None
    cause: str
    reason: str
    required: dict[str, float]
    best: dict[str, float]
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Artifact:
    """One exported graph.

    Attributes:
        role: "embedding"; "packed_embedding" for its twin that takes several texts a row and reads the same weights;
            "fill_mask" for the one that gives scores of the vocabulary at masks, with the same encoder; "patches" for
            the twin of a vision transformer's graph that embeds its patches as well; "pair" for the one that takes a
            current image and a previous one.
        precision: "fp32", "fp16", "bf16", "int8" or "int8-dynamic".
        file: path of the .onnx file inside the bundle; external_data are the files with its weights.
        operators: operator type → count.
        providers: engines that it is meant for.
        parity: comparisons with PyTorch on fixed cases; fidelity those on held-out data.
        recipe: how it was quantized; None where it was not.
    """

    role: str
    precision: str
    file: str
    external_data: tuple[str, ...]
    opset: int
    operators: dict[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    providers: tuple[str, ...]
    parity: tuple[ParityRecord, ...]
    fidelity: tuple[FidelityRecord, ...]
    recipe: Recipe | None

    @property
    def files(self) -> tuple[str, ...]:
        """The graph file followed by its external data."""
        return (self.file, *self.external_data)
