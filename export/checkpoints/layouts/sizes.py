"""Whether a checkpoint has the sizes of the system that was named: L/14 is none of B/32."""

from __future__ import annotations

from pathlib import Path

from export.errors import CheckpointError
from export.families import Family, ImageModel

__all__ = ["check_sizes"]


def check_sizes(folder: Path, family: Family, found: ImageModel, side: int) -> None:
    """Compare what a folder says of its image tower with the family's row, and with its own preprocessing.

    Args:
        folder: of the checkpoint.
        family: what was asked for; a row without a repository takes any sizes.
        found: the row with what the folder says.
        side: of the square of pixels that the network takes.

    Raises:
        CheckpointError: they differ.
    """
    if found.preprocessing.crop != side:
        raise CheckpointError(
            f"{folder}: images are cut to {found.preprocessing.crop} × {found.preprocessing.crop} pixels and the "
            f"network takes {side} × {side}."
        )
    row = family.image
    if family.hub is None or row is None or _sizes(row) == _sizes(found):
        return
    raise CheckpointError(
        f"{folder} has patches of {found.patch} pixels and embeddings of {found.embedding_size} values; "
        f"'{family.name}' has {row.patch} and {row.embedding_size}."
    )


def _sizes(image: ImageModel) -> tuple[int | None, int, int]:
    return image.patch, image.embedding_size, image.preprocessing.crop
