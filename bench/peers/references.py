"""Upstream's models in PyTorch, with the weights that a bundle was made of."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from export.families import FAMILIES, Family
from runtime.bundle import Manifest
from runtime.errors import InputError
from runtime.files import sha256_file

__all__ = ["Reference", "check_weights", "load_reference"]

_STAGES = (1, 2, 3, 4)
# Architecture of a tower → the row of `FAMILIES` whose shape a bundle of an unlisted system has.
_LIKE = {"vit": "clip", "clip": "clip"}
_HI_ML = "hi-ml"


class Reference(NamedTuple):
    """A part in PyTorch.

    Attributes:
        model: an `export.reference.TextReference` or `ImageReference`.
        folder: with the checkpoint's other files, its tokenizer's among them.
    """

    model: Any
    folder: Path


def load_reference(manifest: Manifest, checkpoint: Path, part: str) -> Reference:
    """The reference of a part.

    Args:
        manifest: of the bundle.
        checkpoint: the folder of its weights, or the one file that a system has.
        part: "text" or "image".

    Raises:
        InputError: see `check_weights`.
        CheckpointError: weights are missing or cannot be read.
    """
    check_weights(manifest, checkpoint)
    digests = tuple(sorted(manifest.source.weights.items()))
    models, folder = _loaded(_family(manifest, checkpoint, part), checkpoint.resolve(), digests)
    return Reference(models[part], folder)


def check_weights(manifest: Manifest, checkpoint: Path) -> None:
    """Make sure that a checkpoint is the one that a bundle was made of, or at least one of its parts.

    Raises:
        InputError: no such folder or file, none of the files of weights, or other ones; all of them are named.
    """
    weights = manifest.source.weights
    folder = checkpoint.parent if checkpoint.is_file() else checkpoint
    there = [name for name in weights if (folder / name).is_file() and checkpoint in (folder, folder / name)]
    other = [name for name in there if sha256_file(folder / name) != weights[name]] if there else [*weights]
    if other:
        raise InputError(
            f"{checkpoint} does not hold the weights that the bundle was made of ({', '.join(other)}); with others "
            "nothing can be compared. Give the checkpoint that was exported."
        )


# Both towers of a CLIP come of one file; the digests tell whether it is still the same.
@lru_cache(maxsize=1)
def _loaded(family: Family, checkpoint: Path, digests: tuple[tuple[str, str], ...]) -> tuple[dict[str, Any], Path]:
    from transformers.utils import logging

    from export.checkpoints import open_checkpoint
    from export.checkpoints.models import load_models

    logging.disable_progress_bar()
    # As the export reads it, training programs' files included.
    opened = open_checkpoint(str(checkpoint), family, checkpoint)
    return load_models(family, opened), opened.folder


def _family(manifest: Manifest, checkpoint: Path, part: str) -> Family:
    """The row of a bundle's system, with what was chosen when it was exported; of hi-ml's layout the part alone."""
    owner = manifest.text if part == "text" else manifest.image
    assert owner is not None, f"a bundle with its {part} part"
    family = FAMILIES.get(manifest.family) or FAMILIES[_LIKE.get(owner.architecture, "biovil")]
    if family.layout != _HI_ML:
        return family
    if part == "image":
        image = family.image
        assert image is not None, "a system with an image part"
        assert manifest.image is not None, "a bundle with its image part"
        blocks = _blocks(checkpoint / image.weights_name) or image.blocks
        image = replace(image, blocks=blocks, preprocessing=manifest.image.preprocessing)
        return replace(family, text=None, image=image, joint=None)
    text = family.text
    if text is not None and text.modules and manifest.text is not None:
        text = replace(text, pooling=manifest.text.pooling)
    return replace(family, text=text, image=None, joint=None)


def _blocks(weights: Path) -> tuple[int, ...] | None:
    """Blocks of each stage of a ResNet, by the names of its weights; None where there are none, which is said later."""
    from export.checkpoints import read_tensors

    if not weights.is_file():
        return None
    names = list(read_tensors(weights))
    return tuple(_blocks_of(names, f"encoder.encoder.layer{stage}.") for stage in _STAGES)


def _blocks_of(names: list[str], start: str) -> int:
    return 1 + max((int(name.removeprefix(start).split(".")[0]) for name in names if name.startswith(start)), default=0)
