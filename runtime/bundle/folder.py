"""Open a bundle, verify its digests, choose an artifact."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from runtime.bundle.artifacts import Artifact
from runtime.bundle.manifest import MANIFEST_NAME, Manifest
from runtime.bundle.parts import ImagePart, TextPart
from runtime.bundle.precisions import PRECISIONS
from runtime.bundle.verified import VerifiedFiles
from runtime.errors import BundleError
from runtime.process.checks import path_of

# Roles of artifacts: a text or image a row, several texts a row, these with scores of the words at masks, and a current
# image with a previous one a row.
EMBEDDING = "embedding"
PACKED = "packed_embedding"
FILL_MASK = "fill_mask"
PAIR = "pair"
PATCHES = "patches"
WORDS = "words"
_MAKE_ONE = "Make one with: python -m export biovil --checkpoint SOURCE --out DIR"

__all__ = ["EMBEDDING", "FILL_MASK", "PACKED", "PAIR", "PATCHES", "WORDS", "Bundle", "open_bundle"]


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Files were complete in number and size when it was opened.

    Attributes:
        root: its folder: absolute, links resolved, so that neither a change of the working folder nor of a link changes
            what it is.
        manifest: as it was read then.
        files: opens them, compared with the manifest's digests.
    """

    root: Path
    manifest: Manifest
    files: VerifiedFiles = field(compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what this process knows of the files."""
        return _bundle, (self.root, self.manifest)

    def path(self, name: str) -> Path:
        """Path of a file that the manifest lists."""
        return self.root / name

    def verify(self, names: Iterable[str]) -> None:
        """Compare files with the manifest's sha256.

        Raises:
            BundleError: a file is not listed, or its content changed since export.
        """
        self.files.verify(names)

    def text_part(self) -> TextPart:
        """The text part, or BundleError naming what the bundle has."""
        if self.manifest.text is None:
            raise self._lacks("text")
        return self.manifest.text

    def image_part(self) -> ImagePart:
        """The image part, or BundleError naming what the bundle has."""
        if self.manifest.image is None:
            raise self._lacks("image")
        return self.manifest.image

    def _lacks(self, part: str) -> BundleError:
        return BundleError(
            f"{self.root} has no {part} part (it is a '{self.manifest.family}' bundle with: "
            f"{', '.join(self.parts())}). Export a system that has it: python -m export --list"
        )

    def parts(self) -> tuple[str, ...]:
        """Names of the parts this bundle has: "text", "image"."""
        present = {"text": self.manifest.text, "image": self.manifest.image}
        return tuple(name for name, part in present.items() if part is not None)

    def artifacts(self, part: str, provider: str | None = None, role: str = EMBEDDING) -> tuple[Artifact, ...]:
        """The graphs of a part, in the manifest's order.

        Args:
            part: "text" or "image".
            provider: only those meant for this engine; None gives all.
            role: what they compute.

        Raises:
            BundleError: no such part.
        """
        owner = self.text_part() if part == "text" else self.image_part()
        return tuple(
            artifact
            for artifact in owner.artifacts
            if artifact.role == role and (provider is None or provider in artifact.providers)
        )

    def artifact(self, part: str, precision: str, role: str = EMBEDDING, provider: str | None = None) -> Artifact:
        """The graph of a part in one precision.

        Args:
            part: "text" or "image".
            precision: a precision the bundle has.
            role: what the graph computes.
            provider: the engine it must be meant for; None takes the first of that precision.

        Raises:
            BundleError: no such part, or no such artifact for that engine; the message lists those there are, with
                their engines, and says how to export the one asked for.
        """
        for artifact in self.artifacts(part, provider, role):
            if artifact.precision == precision:
                return artifact
        there = self.artifacts(part, role=role)
        listed = ", ".join(f"{artifact.precision} ({', '.join(artifact.providers)})" for artifact in there)
        # The engine is part of the fault only if another one has that precision.
        engine = f" for {provider}" if provider and any(item.precision == precision for item in there) else ""
        known = PRECISIONS.get(precision)
        by_engine = known.options if known is not None and part in known.parts else {}
        options = by_engine.get(provider) if provider else next(iter(by_engine.values()), None)
        left_out = "".join(
            f" The export left it out: {left.reason}."
            for left in self.manifest.left_out
            if (left.part, left.precision) == (part, precision) and (provider is None or provider in left.providers)
        )
        make = (
            f" Make one with: python -m export {self.manifest.family} --checkpoint SOURCE {options} --out DIR"
            if options and not left_out
            else ""
        )
        raise BundleError(
            f"{self.root} has no {part} artifact in precision '{precision}'{engine}; it has: {listed or 'none'}."
            f"{left_out}{make}"
        )


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle folder: read the manifest, check that every listed file is there in its full size.

    Args:
        path: folder written by `python -m export`.

    Raises:
        InputError: no path.
        BundleError: no such folder, not a bundle, an invalid or newer manifest, files missing or cut short. All
            faults of the files are listed together.
    """
    named = path_of("bundle", path)
    try:
        root = named.resolve()
    except (OSError, RuntimeError) as error:  # a working folder that was removed, a loop of links
        raise BundleError(f"There is no bundle at {named}: {error}") from None
    if not root.is_dir():
        what = "is a file; a bundle is a folder" if root.exists() else "does not exist"
        raise BundleError(f"There is no bundle at {named}: it {what}. {_MAKE_ONE}")
    manifest_path = root / MANIFEST_NAME
    if not manifest_path.is_file():
        raise BundleError(
            f"{root} is not a bundle: it has no {MANIFEST_NAME} (an unfinished export leaves none). {_MAKE_ONE}"
        )
    try:
        text = manifest_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{manifest_path} cannot be read: {error}") from None
    manifest = Manifest.from_json(text, manifest_path)
    faults = []
    for name, entry in manifest.files.items():
        pure = PurePosixPath(name)
        file = root / name
        if pure.is_absolute() or ".." in pure.parts:
            faults.append(f"{name}: leads out of the bundle")
        elif not file.is_file():
            faults.append(f"{name}: missing")
        elif file.stat().st_size != entry.bytes:
            faults.append(f"{name}: {file.stat().st_size:,} bytes, expected {entry.bytes:,}")
    if faults:
        raise BundleError(f"{root} is not complete. Copy or export it again:\n  " + "\n  ".join(faults))
    return _bundle(root, manifest)


def _bundle(root: Path, manifest: Manifest) -> Bundle:
    return Bundle(root, manifest, VerifiedFiles(root, manifest.files))
