"""Labelled images: a folder with one sub-folder a label, or a CSV file with one column a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.archive import find_items
from runtime.errors import InputError
from runtime.files import Columns
from runtime.files.tables import TABLES
from runtime.process.wording import counted, few
from runtime.tasks.truth import ABSENT, PRESENT, match_images, read_truth

__all__ = ["LabelledImages", "labels_of", "read_labelled"]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and what is true of them.

    Attributes:
        paths: of their files.
        labels: those of the prompts that something is said of, in their order.
        truth: int8 (images, labels), see `runtime.tasks.truth`.
        notes: what takes no part, counted, a line each.
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    truth: NDArray[np.int8]
    notes: tuple[str, ...]


def labels_of(data: Path, id_column: str) -> list[str]:
    """The labels that a folder's sub-folders or a file's columns are named by; "_" in a folder's name is a space.

    Raises:
        InputError: there is no such folder or file, or it names none.
    """
    if data.is_dir():
        return [_label(folder) for folder in _folders(data)]
    if data.suffix.lower() != ".csv" or not data.is_file():
        raise InputError(f"{data} is neither a folder with a sub-folder for each label nor a .csv file of labels.")
    try:
        header = TABLES[".csv"].columns(data) or []
    except (OSError, ValueError) as error:
        raise InputError(f"The labels {data} cannot be used: {error}") from None
    return [name for name in header if name != id_column]


def read_labelled(data: Path, images: Path | None, labels: Sequence[str], id_column: str) -> LabelledImages:
    """Find the images of some labels.

    Args:
        data: a folder, or a .csv file, see `runtime.tasks.truth.read_truth`.
        images: of a .csv file: the folder with its images; None is the file's own.
        labels: those that prompts ask for; names are compared without regard to case.
        id_column: of a .csv file: which image a row is about.

    Raises:
        InputError: a sub-folder that no label asks for, no images, no row of an image, and as for `read_truth` and
            `find_items`.
    """
    if data.is_dir():
        if images is not None:
            raise InputError("--images goes with a .csv file of labels; a folder of labels holds its images itself.")
        return _of_folder(data, labels)
    table = read_truth(data, labels, id_column)
    folder = images or data.parent
    stream = find_items([str(folder)], [], Columns())
    if stream.part != "image":
        raise InputError(f"{folder} holds texts; images are expected.")
    files = [str(item.value) for item in stream]
    matches = match_images(table, ((file, file) for file in files))
    paths = tuple(file for file in files if file in matches.row_of)
    if not paths:
        raise InputError(
            f"No row of {data} belongs to an image of {folder}: its column '{id_column}' has {few(table.ids)}, the "
            f"images are {few(files)}. Give ids that are paths, ends of paths or names of files, or --label-id-column."
        )
    notes = [
        f"{what}: {few(names)}"
        for names, what in (
            (table.missing, "labels without a column"),
            (matches.unlabelled, f"{counted(len(matches.unlabelled), 'image')} without a row of labels"),
            (matches.ambiguous, f"{counted(len(matches.ambiguous), 'image')} whose row could mean several"),
            (matches.unused, f"{counted(len(matches.unused), 'row')} of labels without an image"),
        )
        if names
    ]
    return LabelledImages(paths, table.labels, table.values[[matches.row_of[path] for path in paths]], tuple(notes))


def _of_folder(data: Path, labels: Sequence[str]) -> LabelledImages:
    columns = {label.strip().casefold(): column for column, label in enumerate(labels)}
    folders = _folders(data)
    unknown = [folder.name for folder in folders if _label(folder).casefold() not in columns]
    if unknown:
        raise InputError(
            f"No label is called as these folders of {data}: {few(unknown)}; the labels are: {', '.join(labels)}. "
            "Rename or move the folders, or give other labels."
        )
    paths: list[str] = []
    classes: list[int] = []
    for folder in folders:
        stream = find_items([str(folder)], [], Columns())
        found = [str(item.value) for item in stream]
        paths += found
        classes += [columns[_label(folder).casefold()]] * len(found)
    truth = np.full((len(paths), len(labels)), ABSENT, np.int8)
    truth[np.arange(len(paths)), classes] = PRESENT
    empty = [label for column, label in enumerate(labels) if column not in classes]
    notes = [f"labels without a folder: {few(empty)}"] if empty else []
    return LabelledImages(tuple(paths), tuple(labels), truth, tuple(notes))


def _folders(data: Path) -> list[Path]:
    found = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    if not found:
        raise InputError(f"{data} has no sub-folders; one for each label, named by it, is expected.")
    return found


def _label(folder: Path) -> str:
    return folder.name.replace("_", " ").strip()
