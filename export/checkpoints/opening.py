"""Find a checkpoint's files, check their digests, load the tensors. Code from a checkpoint is never run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from export.checkpoints.axes import read_axes
from export.checkpoints.config import read_config
from export.checkpoints.hub import download, looks_like_hub_id
from export.checkpoints.modules import MODULE_FILES, MODULES, DenseModule, read_modules
from export.checkpoints.places import (
    check_folder,
    example_repository,
    folder_names,
    found_instead,
    refuse_source,
    similar_repository,
)
from export.checkpoints.signatures import PICKLE, SAFETENSORS, read_json, require, unreadable
from export.checkpoints.vocabulary import TOKENIZER_FILES
from export.checkpoints.weights import INDEX, read_shards, read_tensors, shard_names
from export.errors import CheckpointError
from export.families import Family, TextAxes
from runtime.bundle.manifest import Source
from runtime.files import sha256_file

__all__ = ["RANDOM_MARKER", "TEXT_WEIGHTS", "Checkpoint", "open_checkpoint"]

# Read in this order of preference, which is transformers'.
TEXT_WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
)
_SHARDS = ("model-*.safetensors", "pytorch_model-*.bin")
# The one file that is not in the hub's layout: it says that the weights mean nothing, and their seed.
RANDOM_MARKER = "random_weights.json"


@dataclass(frozen=True)
class Checkpoint:
    """The files of a checkpoint, found and read.

    Attributes:
        folder: where they lie.
        source: where they came from, for the manifest.
        config: the parsed config.json; empty without a text model.
        text: what is known of the text tower beside its sizes; None without one.
        dense: the linear map behind its pooled state, where a folder of sentence-transformers has one.
        tensors: "text" and "image" → tensor name → tensor.
    """

    folder: Path
    source: Source
    config: dict[str, Any] = field(default_factory=dict)
    text: TextAxes | None = None
    dense: DenseModule | None = None
    tensors: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)


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
        source: a local folder in the hub's layout, a hub id ("organisation/name"), or "random".
        family: what the checkpoint must hold.
        work: a folder for temporary files.
        seed: seed of random weights.
        revision: hub revision; None takes the pinned one of the family's repository, "main" of any other.
        note: called with a line for the user where something was taken from elsewhere, unwrapped or converted.

    Raises:
        CheckpointError: no such checkpoint, files missing, a digest that differs, files that cannot be read safely.
    """
    commit = None
    kind, name, folder = _local(source)
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
    check_folder(folder, names, family)
    modules = read_modules(folder) if family.text and family.text.modules and MODULES in names else None
    if modules is not None and modules.folder != folder:
        folder = modules.folder
        names = folder_names(folder)
    files = _find_files(folder, names, family, f"{source} --revision {revision}" if kind == "hub" else None)
    config = read_config(folder / "config.json", family.text) if family.text else {}
    text = read_axes(folder, config, family.text, modules, note) if family.text else None
    try:
        digests = {file.name: sha256_file(file) for file in _weights_files(files)}
        published = _check_published(files.get("image"), family, kind, source)
    except OSError as error:
        raise unreadable(folder, error) from None
    _say_unread(files, names, note)
    tensors = {
        part: read_shards(file, note) if file.name.endswith(INDEX) else read_tensors(file, note)
        for part, file in files.items()
    }
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
        config,
        text,
        modules.dense if modules else None,
        tensors,
    )


def _local(source: str) -> tuple[str, str, Path]:
    """Kind of source ("random", "folder", "hub", "" for none), its name and folder."""
    path = Path(source).expanduser() if source.startswith("~") else Path(source)
    if not source.strip():  # Path("") is the working folder
        return "", "", path
    try:
        is_folder, exists = path.is_dir(), path.exists() or path.is_symlink()
        marked = is_folder and (path / RANDOM_MARKER).is_file()
    except ValueError:  # a zero byte
        return "", "", path
    except OSError as error:
        raise unreadable(path, error) from None
    if source == "random" or marked:
        return "random", "random", path
    if is_folder:
        return "folder", path.resolve().name, path
    return ("hub" if looks_like_hub_id(source) and not exists else ""), source, path


def _download(source: str, revision: str, family: Family, note: Callable[[str], None]) -> tuple[Path, str]:
    try:
        return download(source, revision, _wanted_files(family), note)
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


def _wanted_files(family: Family) -> list[str]:
    """Patterns of names."""
    wanted: list[str] = []
    if family.text:
        wanted += ["config.json", *TOKENIZER_FILES, *TEXT_WEIGHTS, *_SHARDS, "adapter_config.json"]
        wanted += MODULE_FILES if family.text.modules else [MODULES]
    if family.image:
        wanted.append(family.image.weights_name)
    return wanted


def _find_files(folder: Path, names: set[str], family: Family, cached: str | None) -> dict[str, Path]:
    """The weights file, or index of weights files, of each part; every missing file is listed at once.

    Args:
        folder: where they lie.
        names: of the files in it.
        family: what they must hold.
        cached: what the folder is the hub's cache of, as options of the hub's own program; else None.
    """
    faults: list[str] = []
    found: dict[str, Path] = {}
    if family.text:
        if "config.json" not in names:
            faults.append("config.json")
        if "tokenizer.json" not in names:
            faults += ["tokenizer.json or vocab.txt"] if "vocab.txt" not in names else []
            silent = family.text.silent_tokenizer or "tokenizer_config.json" in names
            faults += [] if silent else ["tokenizer_config.json"]
        weights = [name for name in TEXT_WEIGHTS if name in names]
        if weights:
            found["text"] = folder / weights[0]
        else:
            faults.append("model.safetensors or pytorch_model.bin")
    if family.image:
        found["image"] = folder / family.image.weights_name
        if family.image.weights_name not in names:
            faults.append(family.image.weights_name)
    if faults:
        partly = f" The hub's cache holds a part of it: fetch the rest with `hf download {cached}`." if cached else ""
        raise CheckpointError(
            f"{folder} does not hold a '{family.name}' checkpoint. Missing: {', '.join(faults)}. "
            f"The layout expected is that of {example_repository(family)} on the hub."
            f"{partly or found_instead(folder, names)}"
        )
    return found


def _weights_files(files: dict[str, Path]) -> list[Path]:
    """All files with weights, looked at before they are read."""
    found: list[Path] = []
    for file in files.values():
        found += [file.parent / name for name in shard_names(file)] if file.name.endswith(INDEX) else [file]
    for file in found:
        require(file, PICKLE, SAFETENSORS)
    return found


def _say_unread(files: dict[str, Path], names: set[str], note: Callable[[str], None]) -> None:
    """Other formats of the same weights are not read, and may differ."""
    text = files.get("text")
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
