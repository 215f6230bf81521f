"""The bundle's manifest: what lies in the folder, where it came from and how it was checked.

Frozen dataclasses and strict JSON: unknown or missing keys are errors, a newer schema is refused.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.manifest_checks import part_faults
from runtime.errors import BundleError
from runtime.files.decode import decode
from runtime.files.json_text import parse_json

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "Artifact",
    "CalibrationSet",
    "FidelityRecord",
    "FileEntry",
    "ImagePart",
    "Manifest",
    "ParityRecord",
    "Recipe",
    "Source",
    "TensorSpec",
    "TextPart",
    "Trial",
]

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 3
# Of bundles that are still read: 3 says what a text embedding is, and has graphs that fill masks.
_OLDEST = 2


@dataclass(frozen=True)
class Source:
    """Where the weights came from.

    Attributes:
        kind: "hub", "folder" or "random".
        name: hub id, folder name (never its path), or "random".
        revision: the revision asked for, and the commit it resolved to (hub only).
        seed: seed of random weights.
        weights: sha256 of each weights file that was read.
        published: whether the image weights carry the published digest; None where there is none to compare.
    """

    kind: str
    name: str
    revision: str | None
    commit: str | None
    seed: int | None
    weights: dict[str, str]
    published: bool | None


@dataclass(frozen=True)
class FileEntry:
    """Digest and size of one file of the bundle."""

    sha256: str
    bytes: int


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
class CalibrationSet:
    """The items that a quantized artifact was calibrated with, and the others that it is judged by.

    Attributes:
        kind: "built-in", "file" or "folder".
        name: name of the file or folder (never its path), or "built-in".
        seed: of the shuffle before the split.
        items: number calibrated with; sha256 is the digest of their contents, in order.
        held_out: number judged by; held_out_sha256 is the digest of their contents.
        skipped: items that could not be used.
    """

    kind: str
    name: str
    seed: int
    items: int
    sha256: str
    held_out: int
    held_out_sha256: str
    skipped: int


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
    """One recipe that the search tried: its name, its fidelity and its time on one engine."""

    recipe: str
    provider: str
    figures: dict[str, float]
    milliseconds: float
    accepted: bool


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
class Artifact:
    """One exported graph.

    Attributes:
        role: "embedding"; "packed_embedding" for its twin that takes several texts a row and reads the same weights;
            "fill_mask" for the one that gives scores of the vocabulary at masks, with the same encoder.
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


@dataclass(frozen=True)
class TextPart:
    """The text encoder.

    Attributes:
        max_length: longest input in tokens, [CLS] and [SEP] included.
        embedding_size: length of an embedding.
        artifacts: its graphs.
        embedding: what an embedding is made of: "projected [CLS]", "[CLS]" or "mean of all tokens" (of the last layer).
    """

    max_length: int
    embedding_size: int
    artifacts: tuple[Artifact, ...]
    embedding: str = "projected [CLS]"


@dataclass(frozen=True)
class ImagePart:
    """The image encoder: shorter side after resizing and side of the centre crop in pixels, patches per side."""

    resize: int
    crop: int
    grid: int
    embedding_size: int
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class Manifest:
    """Everything known about a bundle."""

    schema_version: int
    family: str
    created: str
    source: Source
    versions: dict[str, str]
    checks: tuple[ParityRecord, ...]
    calibration: dict[str, CalibrationSet]
    text: TextPart | None
    image: ImagePart | None
    files: dict[str, FileEntry]

    def to_json(self) -> str:
        """The manifest as stable, indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str, where: Path) -> Manifest:
        """Parse a manifest.

        Args:
            text: the JSON text.
            where: path for error messages.

        Raises:
            BundleError: invalid JSON, a newer schema, unknown or missing keys, values of the wrong type, numbers that
                cannot be meant or do not agree with each other.
        """
        try:
            data = parse_json(text)
        except ValueError as error:
            raise BundleError(f"{where} is not valid JSON ({error}). Export the bundle again.") from None
        version = data.get("schema_version") if isinstance(data, dict) else None
        if not isinstance(version, int):
            raise BundleError(f"{where} has no schema_version: it is not a manifest of this project.")
        if version > SCHEMA_VERSION:
            raise BundleError(
                f"{where} has schema version {version}; this runtime reads {_OLDEST} to {SCHEMA_VERSION}. "
                "Install a newer version with: pip install -U cxr-engine"
            )
        if version < _OLDEST:
            raise BundleError(
                f"{where} has schema version {version}; this runtime reads {_OLDEST} to {SCHEMA_VERSION}. "
                "Export the bundle again."
            )
        try:
            manifest = typing.cast(Manifest, decode(Manifest, data, "manifest"))
        except ValueError as error:
            raise BundleError(f"{where}: {error}. Export the bundle again.") from None
        if faults := part_faults(manifest.text, manifest.image):
            raise BundleError(f"{where}: {'; '.join(faults)}. Export the bundle again.")
        return manifest
