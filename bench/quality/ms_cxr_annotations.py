"""The files of MS-CXR: phrases of radiologists, each with one box or several in a chest radiograph of MIMIC-CXR.

Source: https://physionet.org/content/ms-cxr/ (Boecking et al., 2022; for credentialed users), which publishes the same
annotations twice, as `MS_CXR_Local_Alignment_v1.0.0` and `v1.1.0`:

- .csv: a box a row; `dicom_id`, `category_name`, `label_text`, `path`, `x`, `y`, `w`, `h`, `image_width`,
  `image_height`, and in 1.1.0 `split`. Rows of one image, category and phrase belong together.
- .json: COCO; `images` with `id`, `file_name`, `path`, `width`, `height`; `annotations` with `image_id`,
  `category_id`, `label_text` and `bbox`; `categories` with `id` and `name`.

Coordinates are pixels of the original image from its top left corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import Fault, InputError
from runtime.files import Unusable, read_json
from runtime.files.tables import TABLES, parse_number, read_rows
from runtime.files.text_files import text_fault
from runtime.tasks.grounding import Box

__all__ = ["AnnotatedImage", "Annotations", "Phrase", "read_annotations"]

_NEEDED = ("dicom_id", "category_name", "label_text", "x", "y", "w", "h", "image_width", "image_height")
_OPTIONAL = ("path", "split")
_TEXTS = ("dicom_id", "category_name", "label_text")
_LARGEST = 2**31  # of a coordinate: no image is larger, and products of such numbers are finite
_NUMBERS = ("x", "y", "w", "h", "image_width", "image_height")


@dataclass(frozen=True)
class Phrase:
    """A phrase and where it is.

    Attributes:
        text: as the radiologist put it.
        category: one of MS-CXR's eight findings.
        boxes: in fractions of the image's width and height, within the image; at least one.
    """

    text: str
    category: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and what is annotated in it.

    Attributes:
        dicom_id: stem of its file name in MIMIC-CXR.
        path: within MIMIC-CXR-JPG ("files/p10/…"); "" where the annotations have none.
        size: width and height of the image that was annotated, in pixels.
        phrases: at least one.
    """

    dicom_id: str
    path: str
    size: tuple[float, float]
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True)
class Annotations:
    """What an annotation file holds.

    Attributes:
        images: in the file's order.
        clipped: number of boxes that were cut off at the edge of their image.
        left_out: why each of the other boxes is not in `images`: it has no area, or lies outside its image.
    """

    images: list[AnnotatedImage]
    clipped: int
    left_out: list[str]

    @property
    def phrases(self) -> int:
        """Number of phrases."""
        return sum(len(image.phrases) for image in self.images)

    @property
    def boxes(self) -> int:
        """Number of boxes."""
        return sum(len(phrase.boxes) for image in self.images for phrase in image.phrases)


# One box: its place in the file, and the columns of the .csv by name.
_Row = tuple[str, Mapping[str, Any]]


def read_annotations(file: Path, split: str | None = None) -> Annotations:
    """Read the annotations of MS-CXR.

    Args:
        file: .csv or .json.
        split: only those whose `split` is this one ("train", "val" or "test"); None takes all.

    Raises:
        InputError: the file cannot be read, lacks a column, holds values that are no numbers (all are listed), nothing
            for that split, or no box at all.
    """
    if file.suffix.lower() not in _READERS:
        raise InputError(f"{file} has the suffix '{file.suffix}'; .csv or .json is expected.")
    try:
        rows = list(_READERS[file.suffix.lower()](file))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{file} {error}") from None
    if split is not None:
        rows = _of_split(file, rows, split)
    faults = [Fault(index, name, reason) for index, (name, row) in enumerate(rows) if (reason := _fault(row))]
    if faults:
        raise InputError.from_faults(f"boxes of {file.name}", faults, len(rows))
    annotations = _together(rows)
    if not annotations.images:
        raise InputError(f"{file} holds no box that lies in its image ({len(rows)} were read).")
    return annotations


def _csv_rows(file: Path) -> Iterator[_Row]:
    there = TABLES[".csv"].columns(file) or ()
    for number, row in read_rows(file, [*_NEEDED, *(name for name in _OPTIONAL if name in there)]):
        yield f"row {number}", {"": row} if isinstance(row, Unusable) else row


def _coco_rows(file: Path) -> Iterator[_Row]:
    """As the data set's own script makes its .csv of its .json, but fractions of pixels are kept."""
    try:
        found = read_json(file)
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error})") from None
    lacking = [name for name in ("images", "annotations", "categories") if not isinstance(_get(found, name), list)]
    if lacking:
        raise ValueError(f"is not a COCO file: it has no list {', '.join(map(repr, lacking))}")
    images = _by_id(found["images"], "images")
    categories = _by_id(found["categories"], "categories")
    for index, each in enumerate(found["annotations"]):
        image = _named(images, each, "image_id")
        bbox = _get(each, "bbox")
        name = _get(image, "file_name")
        x, y, width, height = bbox if isinstance(bbox, list) and len(bbox) == 4 else (None,) * 4
        yield (
            f"annotation {_get(each, 'id') if _get(each, 'id') is not None else index}",
            {
                "dicom_id": Path(name).stem if isinstance(name, str) else None,
                "path": _get(image, "path"),
                "category_name": _get(_named(categories, each, "category_id"), "name"),
                "label_text": _get(each, "label_text"),
                **{"x": x, "y": y, "w": width, "h": height},
                **{"image_width": _get(image, "width"), "image_height": _get(image, "height")},
                "split": _get(each, "split") or _get(image, "split"),
            },
        )


_READERS = {".csv": _csv_rows, ".json": _coco_rows}


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _key(value: Any, name: str) -> str | int | None:
    """An id, or None for what is none: a list, a fraction, true."""
    found = _get(value, name)
    return found if isinstance(found, (str, int)) and not isinstance(found, bool) else None


def _named(table: Mapping[str | int, Any], value: Any, name: str) -> Any:
    """What an id refers to, or None."""
    key = _key(value, name)
    return None if key is None else table.get(key)


def _by_id(listed: Sequence[Any], what: str) -> dict[str | int, Any]:
    found: dict[str | int, Any] = {}
    for each in listed:
        key = _key(each, "id")
        if key in found:
            raise ValueError(f"has two {what} of the id {key!r}. Rename one")
        if key is not None:
            found[key] = each
    return found


def _of_split(file: Path, rows: Sequence[_Row], split: str) -> list[_Row]:
    there = sorted({str(row["split"]) for _, row in rows if row.get("split")})
    if split not in there:
        has = f"it has: {', '.join(there)}" if there else "it has none: version 1.0.0 was published without"
        raise InputError(f"{file} has no split '{split}'; {has}.")
    return [(name, row) for name, row in rows if row.get("split") == split]


def _fault(row: Mapping[str, Any]) -> str | None:
    if isinstance(row.get(""), Unusable):
        return str(row[""].reason)
    wrong = [fault for name in (*_TEXTS, *_OPTIONAL) if (fault := _text_fault(row, name, name in _OPTIONAL))]
    wrong += [f"{name} is {row.get(name)!r}, a number is expected" for name in _NUMBERS if _number(row, name) is None]
    sizes = [_number(row, name) for name in ("image_width", "image_height")]
    if not wrong and any(size is None or size < 1 for size in sizes):
        wrong.append(f"the image has {sizes[0]:g} × {sizes[1]:g} pixels")
    return "; ".join(wrong) or None


def _text_fault(row: Mapping[str, Any], name: str, optional: bool) -> str | None:
    value = row.get(name)
    if isinstance(value, Unusable):
        return f"{name} {value.reason}"
    if not value:
        return None if optional else f"no {name}"
    if not isinstance(value, str):
        return f"{name} is a {type(value).__name__}, a text is expected"
    reason = text_fault(value)
    return f"{name} {reason}" if reason else None


def _number(row: Mapping[str, Any], name: str) -> float | None:
    found = row.get(name)
    if isinstance(found, str):
        found = parse_number(found)
    if not isinstance(found, (int, float)) or isinstance(found, bool) or abs(found) > _LARGEST:
        return None
    return float(found) if math.isfinite(found) else None


def _together(rows: Sequence[_Row]) -> Annotations:
    """Boxes of one image, category and phrase are one phrase; phrases of one image are computed together."""
    images: dict[str, tuple[str, tuple[float, float]]] = {}
    phrases: dict[str, dict[tuple[str, str], list[Box]]] = {}
    clipped, left_out = 0, []
    for name, row in rows:
        x, y, w, h, width, height = (float(row[number]) for number in _NUMBERS)
        try:
            box = Box(x, y, w, h)
        except InputError:
            left_out.append(f"{name}: the box {x:g},{y:g},{w:g},{h:g} has no area")
            continue
        part = box.clipped((width, height))  # in pixels: a fraction that should be 1 may be a little more
        if part is None:
            left_out.append(f"{name}: the box {box} lies outside its image of {width:g} × {height:g} pixels")
            continue
        clipped += part != box
        identity = str(row["dicom_id"])
        images.setdefault(identity, (str(row.get("path") or ""), (width, height)))
        key = (str(row["category_name"]), str(row["label_text"]))
        phrases.setdefault(identity, {}).setdefault(key, []).append(part.scaled(1 / width, 1 / height))
    found = [
        AnnotatedImage(
            identity,
            path,
            size,
            tuple(Phrase(text, category, tuple(boxes)) for (category, text), boxes in phrases[identity].items()),
        )
        for identity, (path, size) in images.items()
    ]
    return Annotations(found, clipped, left_out)
