"""How the files of a checkpoint lie in its folder, and what they say before the weights are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from export.checkpoints.modules import DenseModule
from export.checkpoints.weights import read_weights
from export.errors import CheckpointError
from export.families import Family, ImageModel, JointModel, TextAxes
from runtime.bundle.manifest import Source

__all__ = ["BOTH", "Checkpoint", "Layout", "Opened", "Tensors", "missing_files"]

Tensors = Mapping[str, torch.Tensor]
# The name, in `Opened.files`, of a file with the weights of both towers.
BOTH = "text and image"


@dataclass(frozen=True)
class Opened:
    """What a folder holds, before its weights are read.

    Attributes:
        folder: where the text tower's files lie; for a folder of sentence-transformers the transformer's.
        files: "text" and "image", or `BOTH` → a file of weights, or the index of several.
        config: what describes the networks' sizes; empty where the family's row says all.
        text: what is known of the text tower beside its sizes; None without one.
        image: the family's row with what the folder says of its image tower; None without one.
        dense: the linear map behind the pooled state, where a folder of sentence-transformers has one.
        text_config: config.json of the text tower alone, as transformers' class for it takes it.
    """

    folder: Path
    files: Mapping[str, Path]
    config: dict[str, Any]
    text: TextAxes | None
    image: ImageModel | None
    dense: DenseModule | None = None
    text_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """A way in which files lie in a folder.

    Attributes:
        wanted: patterns of the names of what is read, weights in the order of preference.
        open: the folder, the names in it, the family, and where the folder is the hub's cache the options of the hub's
            own program; what takes remarks for the user. Raises CheckpointError.
        joint: what joins the towers, of the weights as they were read.
        read: a file of weights, or the index of several, and what takes remarks for the user → tensor name → tensor.
        single: ending of files that may be given in place of the folder that they are in; None where none may.
    """

    wanted: Callable[[Family], list[str]]
    open: Callable[[Path, set[str], Family, str | None, Callable[[str], None]], Opened]
    joint: Callable[[Family, Mapping[str, Tensors]], JointModel | None]
    read: Callable[[Path, Callable[[str], None]], dict[str, torch.Tensor]] = read_weights
    single: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The files of a checkpoint, found and read.

    Attributes:
        folder: where they lie.
        source: where they came from, for the manifest.
        config: the parsed config.json, or what describes both towers; empty without a text model.
        text: what is known of the text tower beside its sizes; None without one.
        image: the family's row of the image tower, with what the checkpoint says of it; None without one.
        joint: what joins the towers; None unless there are two.
        dense: the linear map behind its pooled state, where a folder of sentence-transformers has one.
        tensors: "text" and "image", or `BOTH` → tensor name → tensor.
        text_config: see `Opened`.
    """

    folder: Path
    source: Source
    config: dict[str, Any] = field(default_factory=dict)
    text: TextAxes | None = None
    image: ImageModel | None = None
    joint: JointModel | None = None
    dense: DenseModule | None = None
    tensors: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    text_config: Mapping[str, Any] = field(default_factory=dict)


def missing_files(
    folder: Path, family: str, faults: list[str], layout: str, cached: str | None, found: str
) -> CheckpointError:
    """The error for files that are not there.

    Args:
        folder: where they should lie.
        family: its name.
        faults: their names.
        layout: what is expected instead, as a sentence.
        cached: what the folder is the hub's cache of, as options of the hub's own program; else None.
        found: what is there instead, as a sentence with a space before it, or nothing.
    """
    partly = f" The hub's cache holds a part of it: fetch the rest with `hf download {cached}`." if cached else ""
    return CheckpointError(
        f"{folder} does not hold a '{family}' checkpoint. Missing: {', '.join(faults)}. {layout}{partly or found}"
    )
