"""Find a checkpoint's files, check their digests, load the tensors. Code from a checkpoint is never run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from export.checkpoints.hub import download, looks_like_hub_id
from export.checkpoints.layouts import BOTH, LAYOUTS, TEXT_WEIGHTS, Checkpoint
from export.checkpoints.looks import check_look, look_hint
from export.checkpoints.places import check_folder, folder_names, refuse_source, similar_repository
from export.checkpoints.signatures import PICKLE, SAFETENSORS, read_json, require, unreadable
from export.checkpoints.weights import INDEX, shard_names
from export.errors import CheckpointError
from export.families import Family
from runtime.bundle.manifest import Source
from runtime.files import sha256_file

__all__ = ["RANDOM_MARKER", "TEXT_WEIGHTS", "Checkpoint", "open_checkpoint"]

# The one file that is not in the hub's layout: it says that the weights mean nothing, and their seed.
RANDOM_MARKER = "random_weights.json"


def open_checkpoint(
    source: str,
    family: Family,
    work: Path,
    *,
    seed: int = 0,
    revision: str | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Find and read a checkpoint.

    Args:
        source: a local folder in the hub's layout, a hub id ("organisation/name"), or "random"; of families whose
            layout has a single file, that file.
        family: what the checkpoint must hold.
        work: a folder for temporary files.
        seed: seed of random weights.
        revision: hub revision; None takes the pinned one of the family's repository, "main" of any other.
        note: called with a line for the user where something was taken from elsewhere, unwrapped or converted.

    Raises:
        CheckpointError: no such checkpoint, files missing, a digest that differs, files that cannot be read safely.
    """
    commit = None
    layout = LAYOUTS[family.layout]
    kind, name, folder = _local(source, layout.single)
    if source == "random":
        # Imported here: it needs this module, and torchvision.
        from export.checkpoints.random_checkpoint import write_random_checkpoint

        folder = write_random_checkpoint(work / "random-checkpoint", family, seed)
    elif kind == "hub":
        if revision is None:
            revision = family.hub.revision if family.hub and source == family.hub.repo else "main"
        folder, commit = _download(source, revision, family, note)
    elif kind == "random":
        seed = _random_seed(folder / RANDOM_MARKER)
    elif not kind:
        raise refuse_source(source, family)
    names = folder_names(folder)
    if kind == "folder" and layout.single and name.endswith(layout.single):  # of its kind the one that was given
        names = {each for each in names if each == name or not each.endswith(layout.single)}
    check_folder(folder, names, family)
    cached = f"{source} --revision {revision}" if kind == "hub" else None
    check_look(folder, names, family)
    try:
        opened = layout.open(folder, names, family, cached, note)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{look_hint(folder, names, family)}") from None
    folder, files = opened.folder, opened.files
    names = folder_names(folder)
    try:
        digests = {file.name: sha256_file(file) for file in _weights_files(files)}
        published = _check_published(files.get("image"), family, kind, source)
    except OSError as error:
        raise unreadable(folder, error) from None
    _say_unread(files, names, note)
    tensors = {part: layout.read(file, note) for part, file in files.items()}
    return Checkpoint(
        folder,
        Source(
            kind=kind,
            name=name,
            revision=revision if kind == "hub" else None,
            commit=commit,
            seed=seed if kind == "random" else None,
            weights=digests,
            published=published,
        ),
        opened.config,
        opened.text,
        opened.image,
        layout.joint(family, tensors),
        opened.dense,
        tensors,
        opened.text_config,
    )


def _local(source: str, single: str | None) -> tuple[str, str, Path]:
    """Kind of source ("random", "folder", "hub", "" for none), its name and folder; of a file its own name."""
    path = Path(source).expanduser() if source.startswith("~") else Path(source)
    if not source.strip():  # Path("") is the working folder
        return "", "", path
    try:
        is_folder, exists = path.is_dir(), path.exists() or path.is_symlink()
        is_file = single is not None and path.name.endswith(single) and path.is_file()
        marked = is_folder and (path / RANDOM_MARKER).is_file()
    except ValueError:  # a zero byte
        return "", "", path
    except OSError as error:
        raise unreadable(path, error) from None
    if source == "random" or marked:
        return "random", "random", path
    if is_folder:
        return "folder", path.resolve().name, path
    if is_file:
        return "folder", path.name, path.parent
    return ("hub" if looks_like_hub_id(source) and not exists else ""), source, path


def _download(source: str, revision: str, family: Family, note: Callable[[str], None]) -> tuple[Path, str]:
    try:
        return download(source, revision, LAYOUTS[family.layout].wanted(family), note)
    except CheckpointError as error:
        known = similar_repository(source, family)
        # Of the table's own repository the name is right; of another one it may be a folder's that was mistyped.
        here = "" if family.hub and source == family.hub.repo else " There is no folder of that name here either."
        raise CheckpointError(f"{error}{here}" + (f" Did you mean {known}?" if known else "")) from None
    except OSError as error:
        raise CheckpointError(f"{source}: the hub's cache cannot be used: {error}.") from None


def _random_seed(marker: Path) -> int:
    found = read_json(marker).get("seed")
    if type(found) is not int:
        raise CheckpointError(f"{marker} is not valid: it has no seed. Delete it if the weights are not random.")
    return found


def _weights_files(files: Mapping[str, Path]) -> list[Path]:
    """All files with weights, looked at before they are read."""
    found: list[Path] = []
    for file in files.values():
        found += [file.parent / name for name in shard_names(file)] if file.name.endswith(INDEX) else [file]
    for file in found:
        require(file, PICKLE, SAFETENSORS)
    return found


def _say_unread(files: Mapping[str, Path], names: set[str], note: Callable[[str], None]) -> None:
    """Other formats of the same weights are not read, and may differ."""
    text = files.get("text") or files.get(BOTH)
    others = [name for name in TEXT_WEIGHTS if name in names and text is not None and name != text.name]
    if text is not None and others:
        note(f"{text.name} is read; {' and '.join(others)} beside it {'is' if len(others) == 1 else 'are'} not")


def _check_published(weights: Path | None, family: Family, kind: str, source: str) -> bool | None:
    if weights is None or family.image is None:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    digest.update(weights.read_bytes())
    matches = digest.hexdigest() == family.image.weights_md5
    if kind == "hub" and family.hub and source == family.hub.repo and not matches:
        raise CheckpointError(
            f"{weights.name} from {source} has md5 {digest.hexdigest()}; the published file has "
            f"{family.image.weights_md5}. The download is damaged or the file was replaced: delete it from the hub's "
            "cache and try again."
        )
    return matches
