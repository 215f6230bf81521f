"""What tells whether a model, or the items of a part, are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from runtime.bundle import EMBEDDING, Artifact, Manifest
from runtime.engine import Engine
from runtime.files import Item
from runtime.text.tokenization import TOKENIZER_FILES

__all__ = ["image_stamps", "items_digest", "model_digest", "part_digests"]


def model_digest(engine: Engine, part: str) -> str:
    """What identifies the function that made an embedding, apart from provider and precision.

    Args:
        engine: with that part loaded.
        part: "text" or "image".

    Returns:
        sha256, as hex, of the family's name and a line "name sha256" for each file of the part's graph and tokenizer,
        as the manifest has them.
    """
    return _digest(engine.manifest, part, engine.choices[part].artifact)


def part_digests(manifest: Manifest, part: str) -> dict[str, str]:
    """Every digest that `model_digest` can give for a bundle.

    Args:
        manifest: the bundle's.
        part: "text" or "image".

    Returns:
        Digest → precision of the artifact; empty where the bundle lacks the part.
    """
    owner = manifest.text if part == "text" else manifest.image
    artifacts = [artifact for artifact in owner.artifacts if artifact.role == EMBEDDING] if owner else []
    return {_digest(manifest, part, artifact): artifact.precision for artifact in artifacts}


def _digest(manifest: Manifest, part: str, artifact: Artifact) -> str:
    files = manifest.files
    names = [*artifact.files]
    if part == "text":
        names += [name for file in TOKENIZER_FILES if (name := f"text/{file}") in files]
    lines = [manifest.family, *(f"{name} {files[name].sha256}" for name in sorted(names))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def image_stamps(kind: str, items: Sequence[Item]) -> list[str]:
    """Size and time of change of each image, and of its previous one, "" where there is none; texts need none."""
    return [_stamps(item) if kind == "image" else "" for item in items]


def _stamps(item: Item) -> str:
    return _stamp(item.value) + (f" {_stamp(item.previous)}" if item.previous is not None else "")


def _stamp(path: Any) -> str:
    try:
        status = Path(path).stat()
    except (OSError, TypeError, ValueError):
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def items_digest(items: Sequence[Item], stamps: Sequence[str], rejected: Container[int]) -> str:
    """What identifies a part's items.

    Args:
        items: all of them.
        stamps: see `image_stamps`, from before they were read.
        rejected: positions of those that could not be used. Their files may be mended meanwhile, so only names count.

    Returns:
        sha256 as hex.
    """
    digest = hashlib.sha256()
    for index, (item, stamp) in enumerate(zip(items, stamps, strict=True)):
        value = item.value if isinstance(item.value, str) else repr(item.value)
        previous = () if item.previous is None else (item.previous,)
        for field in (item.id, value, *previous, "" if index in rejected else stamp):
            content = field.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
