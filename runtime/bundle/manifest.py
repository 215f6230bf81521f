"""The bundle's manifest: what lies in the folder, where it came from and how it was checked.

Frozen dataclasses and strict JSON: unknown or missing keys are errors, a newer schema is refused.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.artifacts import LeftOut, ParityRecord
from runtime.bundle.manifest_checks import part_faults
from runtime.bundle.older import OLDEST, upgraded
from runtime.bundle.parts import ImagePart, Joint, TextPart
from runtime.errors import BundleError
from runtime.files import parse_json
from runtime.files.decode import decode

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "CalibrationSet",
    "FileEntry",
    "Manifest",
    "Source",
]

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 4


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
class Manifest:
    """Everything known about a bundle; left_out is what was asked for and missed its gate."""

    schema_version: int
    family: str
    created: str
    source: Source
    versions: dict[str, str]
    checks: tuple[ParityRecord, ...]
    calibration: dict[str, CalibrationSet]
    text: TextPart | None
    image: ImagePart | None
    joint: Joint | None
    files: dict[str, FileEntry]
    left_out: tuple[LeftOut, ...] = ()

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
                f"{where} has schema version {version}; this runtime reads {OLDEST} to {SCHEMA_VERSION}. "
                "Install a newer version with: pip install -U cxr-engine"
            )
        if version < OLDEST:
            raise BundleError(
                f"{where} has schema version {version}; this runtime reads {OLDEST} to {SCHEMA_VERSION}. "
                "Export the bundle again."
            )
        try:
            current = data if version == SCHEMA_VERSION else upgraded(data)
            manifest = typing.cast(Manifest, decode(Manifest, current, "manifest"))
        except ValueError as error:
            raise BundleError(f"{where}: {error}. Export the bundle again.") from None
        if faults := part_faults(manifest.text, manifest.image, manifest.joint):
            raise BundleError(f"{where}: {'; '.join(faults)}. Export the bundle again.")
        return manifest
