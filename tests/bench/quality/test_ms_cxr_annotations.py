"""The files of MS-CXR, and the images that belong to them."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from bench.quality.ms_cxr_annotations import AnnotatedImage, Phrase, read_annotations
from bench.quality.ms_cxr_files import find_images
from export.samples import chest_phantom
from runtime.tasks.grounding import Box
from tests.bench.ms_cxr import COLUMNS, ROWS, SIZE, write_coco, write_csv, write_films


@pytest.fixture
def films(tmp_path: Path) -> Path:
    return write_films(tmp_path / "films")


def test_boxes_of_one_image_finding_and_phrase_belong_together(tmp_path: Path) -> None:
    found = read_annotations(write_csv(tmp_path / "a.csv"))
    first, second = found.images
    assert (first.dicom_id, first.path, first.size) == ("aa-11", "files/p1/s1/aa-11.jpg", (240, 300))
    assert [(phrase.category, phrase.text, len(phrase.boxes)) for phrase in first.phrases] == [
        ("Pneumonia", "left opacity", 2),
        ("Edema", "no, small edema", 1),
        ("Pneumonia", "small opacity", 1),
    ]
    assert second.phrases == (Phrase("left opacity", "Pneumonia", (Box(30, 200, 120, 60).scaled(1 / 240, 1 / 300),)),)
    assert (found.phrases, found.boxes, found.clipped, found.left_out) == (4, 5, 0, [])


def test_the_same_phrase_of_another_finding_is_another(tmp_path: Path) -> None:
    rows = [ROWS[0], ("Edema", *ROWS[0][1:])]
    assert read_annotations(write_csv(tmp_path / "a.csv", rows)).phrases == 2


def test_both_published_formats_say_the_same(tmp_path: Path) -> None:
    assert read_annotations(write_coco(tmp_path / "a.json")) == read_annotations(write_csv(tmp_path / "a.csv"))


def test_the_split_of_version_1_1(tmp_path: Path) -> None:
    rows = [(*row, "test" if row[3] == "bb-22" else "val") for row in ROWS]
    file = write_csv(tmp_path / "a.csv", rows, [*COLUMNS, "split"])
    assert [image.dicom_id for image in read_annotations(file, "test").images] == ["bb-22"]
    assert len(read_annotations(file).images) == 2
    with pytest.raises(runtime.InputError, match="has no split 'train'; it has: test, val"):
        read_annotations(file, "train")
    with pytest.raises(runtime.InputError, match="has no split 'test'; it has none"):
        read_annotations(write_csv(tmp_path / "b.csv"), "test")


def test_boxes_outside_their_image_are_cut_off_or_left_out(tmp_path: Path) -> None:
    phrase = ROWS[0][:4]
    rows = [
        (*phrase, -10, 60, 50, 80, *SIZE),
        (*phrase, 240, 60, 50, 80, *SIZE),
        (*phrase, 10, 60, 0, 80, *SIZE),
        (*ROWS[1][:4], 203, 273, 37, 27, *SIZE),  # ends where the image does
    ]
    for file in (write_csv(tmp_path / "a.csv", rows), write_coco(tmp_path / "a.json", rows)):
        found = read_annotations(file)
        cut, touching = found.images[0].phrases
        in_pixels = [astuple(box.scaled(*SIZE)) for box in cut.boxes + touching.boxes]
        assert np.allclose(in_pixels, [(0, 60, 40, 80), (203, 273, 37, 27)])
        assert found.clipped == 1
        assert [reason.partition(": ")[2] for reason in found.left_out] == [
            "the box 240,60,50,80 lies outside its image of 240 × 300 pixels",
            "the box 10,60,0,80 has no area",
        ]
    with pytest.raises(runtime.InputError, match=r"no box that lies in its image \(2 were read\)"):
        read_annotations(write_csv(tmp_path / "b.csv", rows[1:3]))


def test_faults_of_a_file_are_named_together(tmp_path: Path) -> None:
    rows = [
        ("Edema", "", "p", "a", "left", 2, 3, 4, 5, 6),
        *ROWS,
        ("Edema", "x", "p", "a", 1, 2, "nan", 4, 0, 6),
        ("Edema", "x", "p", "a", 1, 2, 3, 4, 0, 6),
    ]
    with pytest.raises(runtime.InputError) as caught:
        read_annotations(write_csv(tmp_path / "a.csv", rows))
    assert "3 of 8 boxes of a.csv cannot be used" in str(caught.value)
    assert "row 1: no label_text; x is 'left', a number is expected" in str(caught.value)
    assert "row 7: w is 'nan', a number is expected" in str(caught.value)
    assert "row 8: the image has 0 × 6 pixels" in str(caught.value)
    broken = json.loads(write_coco(tmp_path / "a.json").read_text())
    broken["annotations"][1] |= {"bbox": [1, 2], "category_id": 99}
    (tmp_path / "a.json").write_text(json.dumps(broken))
    with pytest.raises(runtime.InputError, match="annotation 1: no category_name; x is None, a number is expected"):
        read_annotations(tmp_path / "a.json")


COCO = '{{"images": [{}], "categories": [], "annotations": [{{"image_id": 1, "bbox": [1, 2, 3, 4]}}]}}'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "dicom_id,x\n1,2\n", "has no column 'category_name'; it has: dicom_id, x"),
        ("a.csv", ",".join(COLUMNS) + "\n", r"no box that lies in its image \(0 were read\)"),
        ("a.csv", ",".join(COLUMNS) + '\na,"b\n', "not valid CSV|no dicom_id"),
        ("a.csv", ",".join([*COLUMNS, "x"]) + "\n" + "1," * len(COLUMNS) + "1\n", "has the column 'x' 2 times"),
        ("a.csv", ",".join(COLUMNS) + "\n1,2\n", f"row 1: has 2 fields where the header has {len(COLUMNS)}"),
        ("a.json", "{", "is not valid JSON"),
        ("a.json", '{"images": [], "images": []}', "is not valid JSON .'images' is given twice"),
        ("a.json", "[" * 100_000, "is not valid JSON .it is nested too deeply"),
        ("a.json", COCO.format('{"id": 1}, {"id": 1}'), "has two images of the id 1"),
        ("a.json", COCO.format('{"id": [1]}'), "annotation 0: no dicom_id"),
        (
            "a.json",
            COCO.format('{"id": 1, "file_name": "a", "width": true, "height": 1e999}'),
            "width is True, a number",
        ),
        ("a.json", "[]", "is not a COCO file: it has no list 'images', 'annotations', 'categories'"),
        ("a.txt", "", r"suffix '\.txt'; \.csv or \.json is expected"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(runtime.InputError, match=message):
        read_annotations(tmp_path / name)


def test_images_are_found_by_path_or_name(tmp_path: Path, films: Path) -> None:
    def image(identity: str, path: str) -> AnnotatedImage:
        return AnnotatedImage(identity, path, SIZE, (Phrase("x", "y", (Box(0, 0, 1, 1),)),))

    Image.fromarray(chest_phantom(50, 40, 1)).save(tmp_path / "out.png")
    wanted = [
        image("aa-11", "files/p1/s1/aa-11.jpg"),
        image("bb-22", "files/p2/s2/bb-22.jpg"),
        image("cc-33", "files/p3/cc-33.jpg"),
        image("dd-44", "../out.png"),
        image("ee-55", str(tmp_path / "out.png")),
    ]
    by_path = films / "files/p1/s1/aa-11.jpg"
    assert find_images(wanted, films) == {"aa-11": by_path, "bb-22": films / "elsewhere/bb-22.png"}
    assert find_images(wanted[:1], films / "files") == {"aa-11": by_path}, "copies often begin below files/"
    with pytest.raises(runtime.InputError, match="is not a folder"):
        find_images(wanted, films / "nowhere")
