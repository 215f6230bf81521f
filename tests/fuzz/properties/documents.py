"""Files that are read whole: prompts, labels, annotations, JSON. The independent readers are json and csv."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from bench.quality.ms_cxr_annotations import AnnotatedImage, read_annotations
from runtime.errors import InputError
from runtime.files import read_json
from runtime.tasks.prompts import read_prompts
from runtime.tasks.templates import read_templates
from runtime.tasks.truth import BLANK, read_truth
from tests.fuzz.properties.files import edited_json
from tests.fuzz.property import Property, scratch_folder

__all__ = ["PROPERTIES"]

_ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])
_PROMPTS = {"Edema": {"positive": ["edema", "wet"], "negative": ["no edema"]}, "Ödem": [["x"], ["y"]]}
_TEMPLATES = {"positive": ["{}", "a photo of a {}."], "negative": ["no {}"]}
_LABELS = ("Edema", "Pneumonia")


def _encoded(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    return st.builds(lambda text, encoding: text.encode(encoding, "replace"), texts, _ENCODINGS)


def check_prompts_file(content: bytes) -> None:
    """The labels and prompts that json.loads finds, in their order."""
    path = _write("prompts.json", content)
    try:
        found = read_prompts(path)
    except InputError:
        return
    expected = json.loads(content.decode("utf-8-sig"))
    assert [each.label for each in found] == list(expected)
    for each, sides in zip(found, expected.values(), strict=True):
        pair = [sides["positive"], sides["negative"]] if isinstance(sides, dict) else sides
        assert [list(each.positive), list(each.negative)] == pair


def check_templates_file(content: bytes) -> None:
    """The templates that json.loads finds, each with a place for the label."""
    path = _write("templates.json", content)
    try:
        found = read_templates(path)
    except InputError:
        return
    expected = json.loads(content.decode("utf-8-sig"))
    sides = expected if isinstance(expected, dict) else {"positive": expected}
    assert [list(found.positive), list(found.negative)] == [sides["positive"], sides.get("negative", [])]
    assert all("{}" in each for each in (*found.positive, *found.negative))


def check_json(content: bytes) -> None:
    """What json.loads makes of the text, unless it drops a name or holds what is refused."""
    path = _write("document.json", content)
    try:
        found = read_json(path)
    except ValueError:
        return
    assert repr(found) == repr(json.loads(content.decode("utf-8-sig"), object_pairs_hook=_each_once))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a name came twice, and one of its values is lost"
    return dict(pairs)


_CELLS = st.sampled_from(["1", "0", "-1", "", " ", "1.0", "nan", "0_1", "１", "2", "yes", "a.png", '"1"', '"', "x,y"])
_ROWS = st.lists(st.lists(_CELLS, min_size=2, max_size=4).map(",".join), max_size=6)
_LABEL_TABLES = st.builds(
    lambda header, rows, end: end.join([header, *rows]),
    st.sampled_from(
        ["id,Edema,Pneumonia", "id,edema ", "Edema,id", "id,Edema,EDEMA", "id,id,Edema", '"id","Edema"', ""]
    ),
    _ROWS,
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)


def check_labels(content: bytes) -> None:
    """Ids and values are those of the cells that csv finds in the columns of these names."""
    path = _write("labels.csv", content)
    try:
        found = read_truth(path, _LABELS, "id")
    except InputError:
        return
    stream = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    header, *rows = (row for row in csv.reader(stream, strict=True) if row)
    assert list(found.ids) == [row[header.index("id")] for row in rows]
    assert len(set(found.ids)) == len(rows)
    names = [name.strip().casefold() for name in header]
    for column, label in enumerate(found.labels):
        for row, value in zip(rows, found.values[:, column].tolist(), strict=True):
            cell = row[names.index(label.casefold())].strip()
            expected = BLANK if not cell or math.isnan(float(cell)) else float(cell)
            assert value == expected
            assert not re.search("[^ -~]|_", cell)


_COLUMNS = ("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height")
_NUMBERS = st.one_of(
    st.integers(-50, 400).map(str), st.sampled_from(["0", "1e3", "nan", "inf", "1_0", "1e300", "x", ""])
)
_BOXES = st.builds(
    lambda texts, numbers: ",".join([*texts, *numbers]),
    st.lists(st.sampled_from(["a", "b", '"left, small"', '"x\ny"', "", "é"]), min_size=4, max_size=4),
    st.lists(_NUMBERS, min_size=4, max_size=4).map(lambda box: [*box, "240", "300"]),
)
_BOX_TABLES = st.lists(_BOXES, max_size=6).map(lambda rows: "\n".join([",".join(_COLUMNS), *rows]).encode())
_COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "path": "files/a.jpg", "width": 240, "height": 300}],
    "categories": [{"id": 3, "name": "Edema"}],
    "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "label_text": "small", "bbox": [1, 2, 30.5, 40]}],
}


def check_boxes_csv(content: bytes) -> None:
    """Every box that lies in its image, cut at the edges, by image, category and phrase."""
    path = _write("boxes.csv", content)
    try:
        found = read_annotations(path)
    except InputError:
        return
    stream = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    rows = list(csv.DictReader(stream, strict=True))
    _same_boxes(found.images, [row for row in rows if None not in row and None not in row.values()])
    assert found.boxes + len(found.left_out) == len(rows)


def check_boxes_json(content: bytes) -> None:
    """As those of the .csv."""
    path = _write("boxes.json", content)
    try:
        found = read_annotations(path)
    except InputError:
        return
    document = json.loads(content.decode("utf-8-sig"))
    images = {image["id"]: image for image in document["images"] if "id" in image}
    names = {category["id"]: category.get("name") for category in document["categories"] if "id" in category}
    rows = []
    for each in document["annotations"]:
        image = images[each["image_id"]]
        x, y, w, h = each["bbox"]
        rows.append(
            {
                "dicom_id": Path(image["file_name"]).stem,
                "category_name": names[each["category_id"]],
                "label_text": each["label_text"],
                **{"x": x, "y": y, "w": w, "h": h, "image_width": image["width"], "image_height": image["height"]},
            }
        )
    _same_boxes(found.images, rows)


def _same_boxes(images: list[AnnotatedImage], rows: list[dict[str, Any]]) -> None:
    found = [
        (image.dicom_id, phrase.category, phrase.text, *(box.x * image.size[0], box.width * image.size[0]))
        for image in images
        for phrase in image.phrases
        for box in phrase.boxes
    ]
    sizes = {image.dicom_id: image.size for image in images}
    expected = []
    for row in rows:
        x, y, w, h, width, height = (float(row[name]) for name in _COLUMNS[4:])
        left, right, top, bottom = max(x, 0), min(x + w, width), max(y, 0), min(y + h, height)
        if w > 0 and h > 0 and left < right and top < bottom:
            scale = sizes[row["dicom_id"]][0] / width
            expected.append(
                (row["dicom_id"], row["category_name"], row["label_text"], left * scale, (right - left) * scale)
            )
    assert len(found) == len(expected)
    for one, other in zip(sorted(found), sorted(expected), strict=True):
        assert one[:3] == other[:3]
        assert one[3:] == pytest.approx(other[3:], abs=1e-6)


def _write(name: str, content: bytes) -> Path:
    path = scratch_folder() / name
    path.write_bytes(content)
    return path


_DEEP = st.just(b"[" * 100_000)
PROPERTIES = {
    "prompts": Property(_encoded(edited_json(_PROMPTS)) | st.binary(max_size=24) | _DEEP, check_prompts_file),
    "templates": Property(
        _encoded(edited_json(_TEMPLATES) | edited_json({"positive": ["{}"]})) | st.binary(max_size=24) | _DEEP,
        check_templates_file,
    ),
    "json": Property(
        _encoded(edited_json(_COCO))
        | st.sampled_from([b'{"a": 1, "a": 2}', b"9" * 5000, b"NaN", b'"\\ud800"', b"\xef\xbb\xbf1", b"\xff\xfe1\0"])
        | st.binary(max_size=24)
        | _DEEP,
        check_json,
    ),
    "labels": Property(_encoded(_LABEL_TABLES) | st.binary(max_size=48), check_labels),
    "boxes csv": Property(_BOX_TABLES, check_boxes_csv),
    "boxes json": Property(_encoded(edited_json(_COCO)) | _DEEP, check_boxes_json),
}
