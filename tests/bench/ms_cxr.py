"""Annotations of the published MS-CXR formats, and films to go with them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from export.samples import chest_phantom

COLUMNS = ["category_name", "label_text", "path", "dicom_id", "x", "y", "w", "h", "image_width", "image_height"]
SIZE = (240, 300)
# Two boxes for one phrase, which the file does not keep together; three phrases in one image; two images.
ROWS = [
    ("Pneumonia", "left opacity", "files/p1/s1/aa-11.jpg", "aa-11", 40, 60, 50, 80, *SIZE),
    ("Edema", "no, small edema", "files/p1/s1/aa-11.jpg", "aa-11", 100, 100, 90, 40, *SIZE),
    ("Pneumonia", "left opacity", "files/p1/s1/aa-11.jpg", "aa-11", 150, 120, 30, 30, *SIZE),
    ("Pneumonia", "small opacity", "files/p1/s1/aa-11.jpg", "aa-11", 30, 30, 100, 100, *SIZE),
    ("Pneumonia", "left opacity", "files/p2/s2/bb-22.jpg", "bb-22", 30, 200, 120, 60, *SIZE),
]


def write_csv(file: Path, rows: Sequence[Sequence[object]] = ROWS, columns: Sequence[str] = COLUMNS) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return file


def write_coco(file: Path, rows: Sequence[Sequence[object]] = ROWS) -> Path:
    images = {row[3]: index for index, row in enumerate(rows)}
    categories = {row[0]: index + 1 for index, row in enumerate(rows)}
    coco = {
        "info": {},
        "licenses": [],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "images": [
            {
                "id": images[identity],
                "file_name": f"{identity}.jpg",
                "path": next(row[2] for row in rows if row[3] == identity),
                "width": SIZE[0],
                "height": SIZE[1],
            }
            for identity in images
        ],
        "annotations": [
            {"id": index, "image_id": images[row[3]], "category_id": categories[row[0]], "label_text": row[1]}
            | {"bbox": list(row[4:8]), "width": SIZE[0], "height": SIZE[1]}
            for index, row in enumerate(rows)
        ],
    }
    file.write_text(json.dumps(coco), encoding="utf-8")
    return file


def write_films(folder: Path) -> Path:
    """The first image has half the size that it was annotated at; the second is found by name only."""
    (folder / "files/p1/s1").mkdir(parents=True)
    (folder / "elsewhere").mkdir()
    Image.fromarray(chest_phantom(150, 120, 1)).save(folder / "files/p1/s1/aa-11.jpg")
    Image.fromarray(chest_phantom(300, 240, 2)).save(folder / "elsewhere/bb-22.png")
    (folder / "elsewhere/bb-22.csv").write_text("not an image")
    return folder
