"""Download a checkpoint from the Hugging Face hub, at a pinned revision, with its digests checked."""

from __future__ import annotations

import re
from pathlib import Path

from export.errors import CheckpointError
from runtime.bundle import sha256_file

__all__ = ["download", "looks_like_hub_id"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def looks_like_hub_id(source: str) -> bool:
    """Whether a string has the form "organisation/name"."""
    return _HUB_ID.fullmatch(source) is not None


def download(repo: str, revision: str, wanted: list[str]) -> tuple[Path, str]:
    """Fetch files into the hub's own cache.

    Args:
        repo: "organisation/name".
        revision: branch, tag or commit.
        wanted: file names; those the repository lacks are left out, and a pickled text checkpoint is left out where the
            repository has safetensors.

    Returns:
        The folder with the files, and the commit that the revision stands for.

    Raises:
        CheckpointError: the hub cannot be reached, no such repository or revision, or a file whose sha256 is not the
            one that the hub lists.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
        listed = {entry.rfilename: entry for entry in info.siblings or []}
        names = [name for name in wanted if name in listed]
        if "model.safetensors" in names and "pytorch_model.bin" in names:
            names.remove("pytorch_model.bin")
        folder = Path(snapshot_download(repo, revision=info.sha, allow_patterns=names))
    except Exception as error:  # the hub's client raises types of several HTTP libraries
        raise CheckpointError(
            f"{repo} at revision {revision} cannot be downloaded: {error}\n"
            "Without access to the hub, download the repository elsewhere and pass its folder as --checkpoint."
        ) from error
    for name in names:
        lfs = listed[name].lfs
        if lfs is not None and (found := sha256_file(folder / name)) != lfs.sha256:
            raise CheckpointError(
                f"{name} from {repo} has sha256 {found}; the hub lists {lfs.sha256}. The download is damaged: delete "
                f"it from the hub's cache and try again."
            )
    return folder, str(info.sha)
