"""A checkpoint from the Hugging Face hub, or from its cache on this machine, at a pinned revision, digests checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from export.errors import CheckpointError
from runtime.files import sha256_file

__all__ = ["download", "looks_like_hub_id"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ELSEWHERE = "Without access to the hub, download the repository elsewhere and pass its folder as --checkpoint."
_DAMAGED = "The download is damaged: delete it from the hub's cache and try again."
# The hub has trouble of its own or too much to do: what is in the cache is as good as without a network.
_UNAVAILABLE = (429, 500, 502, 503, 504)


def looks_like_hub_id(source: str) -> bool:
    """Whether a string has the form "organisation/name"."""
    return _HUB_ID.fullmatch(source) is not None


def download(
    repo: str, revision: str, wanted: list[str], note: Callable[[str], None] = lambda _: None
) -> tuple[Path, str]:
    """Fetch files into the hub's own cache, or take them from there where the hub cannot be reached.

    Args:
        repo: "organisation/name".
        revision: branch, tag or commit.
        wanted: patterns of file names, weights in the order of preference; those the repository lacks are left out, and
            of several formats of the text weights the first one alone is fetched.
        note: called with a line for the user where the cache is used without asking the hub.

    Returns:
        The folder with the files, and the commit that the revision stands for.

    Raises:
        CheckpointError: the hub cannot be reached and the revision is not in the cache, no such repository or revision,
            or a file whose digest is not the one that the hub lists or named it by.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    except Exception as error:  # the hub's client raises types of several HTTP libraries
        if not _unreachable(error):
            raise _failed(repo, revision, error) from None
        offline = type(error).__name__ == "OfflineModeIsEnabled"
        return _from_cache(repo, revision, wanted, "HF_HUB_OFFLINE is set" if offline else _line(error), note)
    listed = {entry.rfilename: entry for entry in info.siblings or []}
    names = _chosen(list(listed), wanted)
    try:
        # By the revision's name, so that the cache knows it when the hub cannot be asked.
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=names))
    except Exception as error:
        raise _failed(repo, revision, error) from None
    if folder.name != info.sha:
        raise CheckpointError(f"{repo}: the revision {revision} was changed during the download. Try again.")
    for name in names:
        lfs = listed[name].lfs
        if not (folder / name).is_file():
            raise CheckpointError(f"{name} from {repo} was not downloaded. Try again.")
        if lfs is not None and (found := sha256_file(folder / name)) != lfs.sha256:
            raise CheckpointError(f"{name} from {repo} has sha256 {found}; the hub lists {lfs.sha256}. {_DAMAGED}")
    return folder, str(info.sha)


def _chosen(listed: list[str], wanted: list[str]) -> list[str]:
    """Files to fetch. Text weights are one format: the first whose file is there, or its index and shards."""
    names = {name for pattern in wanted for name in listed if fnmatch(name, pattern)}
    formats = (
        ("model.safetensors",),
        ("model.safetensors.index.json", "model-*.safetensors"),
        ("pytorch_model.bin",),
        ("pytorch_model.bin.index.json", "pytorch_model-*.bin"),
        ("open_clip_model.safetensors",),
        ("open_clip_pytorch_model.bin",),
    )
    taken = next((index for index, (first, *_) in enumerate(formats) if first in names), None)
    for index, patterns in enumerate(formats):
        if index != taken:
            names = {name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)}
    return sorted(names)


def _unreachable(error: Exception) -> bool:
    """Whether there was no answer, or one that says that the hub is out of order."""
    response: Any = getattr(error, "response", None)
    if response is not None:
        return getattr(response, "status_code", None) in _UNAVAILABLE
    connection = isinstance(error, (ConnectionError, TimeoutError))
    return connection or any(
        name in ("ConnectionError", "TransportError", "Timeout", "OfflineModeIsEnabled")
        for name in (each.__name__ for each in type(error).__mro__)
    )


def _from_cache(
    repo: str, revision: str, wanted: list[str], reason: str, note: Callable[[str], None]
) -> tuple[Path, str]:
    """The snapshot that the hub's client keeps; its layout is documented and the same in all versions."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    references, snapshots = root / "refs", root / "snapshots"
    reference = references / revision
    try:
        commit = revision if _COMMIT.fullmatch(revision) else reference.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        commit = ""
    folder = snapshots / commit
    if not _COMMIT.fullmatch(commit) or not folder.is_dir():
        raise CheckpointError(
            f"{repo} at revision {revision} cannot be downloaded ({reason}) and is not in the hub's cache "
            f"({root.parent}){_others(references, snapshots)}. {_ELSEWHERE}"
        )
    for name in _chosen([path.name for path in folder.iterdir() if path.is_file()], wanted):
        _check_blob(folder / name, repo)
    note(f"the hub was not asked ({reason}): {repo} at revision {revision} is taken from its cache, commit {commit}")
    return folder, commit


def _others(references: Path, snapshots: Path) -> str:
    """Revisions of the same repository that are in the cache."""
    names = {}
    for path in references.rglob("*") if references.is_dir() else ():
        if path.is_file():
            names[path.read_text(encoding="utf-8", errors="replace").strip()] = path.relative_to(references).as_posix()
    commits = [path.name for path in snapshots.iterdir() if path.is_dir()] if snapshots.is_dir() else []
    shown = ", ".join(sorted(names.get(commit, commit) for commit in commits))
    return f", which has other revisions of it ({shown}): take one with --revision" if shown else ""


def _check_blob(file: Path, repo: str) -> None:
    """Files of a cache are named by their digests: sha256 of large ones, git's sha1 of small ones."""
    named = file.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", named):
        whole = sha256_file(file)
        right = whole == named
    elif _COMMIT.fullmatch(named):
        content = file.read_bytes()
        # Git's digest; some mirrors of the hub give the file's own.
        blobs = (b"blob %d\0" % len(content) + content, content)
        right = named in [hashlib.sha1(blob, usedforsecurity=False).hexdigest() for blob in blobs]
    else:  # a copy, as on Windows: its name says nothing
        return
    if not right:
        raise CheckpointError(f"{file.name} from {repo} in the hub's cache is not the file that its name stands for "
                              f"({named}). {_DAMAGED}")  # fmt: skip


def _failed(repo: str, revision: str, error: Exception) -> CheckpointError:
    return CheckpointError(f"{repo} at revision {revision} cannot be downloaded: {_line(error)}. {_ELSEWHERE}")


def _line(error: Exception) -> str:
    """An error in one line: the client's messages go on for several."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
