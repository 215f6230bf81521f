"""The image files of a data set, found by the path or the name that its annotations give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from bench.quality.ms_cxr_annotations import AnnotatedImage
from runtime.errors import InputError
from runtime.files.folders import search_folder
from runtime.image.images import look_at

__all__ = ["find_images"]

# The folder that MIMIC-CXR's own paths begin with; copies often leave it out.
_TOP = "files"


def find_images(images: Sequence[AnnotatedImage], folder: Path) -> Mapping[str, Path]:
    """Look for the files of annotated images.

    A file is found by its path below the folder, with or without the leading "files/"; or else anywhere below it by its
    `dicom_id`, with any suffix or none, if it is an image; see `search_folder`.

    Args:
        images: what is looked for.
        folder: where.

    Returns:
        `dicom_id` → file, of those that are there.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.")
    found = {image.dicom_id: file for image in images if (file := _by_path(folder, image.path))}
    missing = {image.dicom_id for image in images} - found.keys()
    return found | _by_name(folder, missing) if missing else found


def _by_path(folder: Path, path: str) -> Path | None:
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if not parts or ".." in parts or path.startswith("/"):  # an annotation file must not lead out of the folder
        return None
    for tried in (parts, parts[1:] if parts[0] == _TOP else ()):
        if tried and folder.joinpath(*tried).is_file():
            return folder.joinpath(*tried)
    return None


def _by_name(folder: Path, wanted: set[str]) -> dict[str, Path]:
    candidates: dict[str, list[Path]] = {}
    try:
        images = search_folder(folder).images
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}).") from None
    for file in map(Path, images):
        for name in {file.name, file.stem} & wanted:
            candidates.setdefault(name, []).append(file)
    # A mask may have the same name, and a name alone makes no image: the first, in the order of names, that is one.
    first = {name: next((file for file in files if not look_at([file])), None) for name, files in candidates.items()}
    return {name: file for name, file in first.items() if file}
