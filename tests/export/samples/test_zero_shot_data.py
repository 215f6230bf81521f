"""Labelled images and prompts for an export: read as `classify` reads them, and refused with what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.errors import CalibrationError
from export.samples import chest_phantom
from export.samples.zero_shot import ZeroShotData, ZeroShotSources, joint_of, zero_shot_data
from runtime.bundle import open_bundle
from runtime.errors import InputError
from runtime.image.images import load_pixels
from runtime.tasks.truth import ABSENT, BLANK, PRESENT, UNCERTAIN
from runtime.text import Tokenizer
from tests.conftest import System

PROMPTS = {
    "Edema": {"positive": ["Pulmonary edema.", "Edema is seen"], "negative": ["No edema"]},
    "Pneumothorax": {"positive": ["A pneumothorax"], "negative": ["No pneumothorax", "Lungs expanded"]},
}
LABELS = "id,edema,Pneumothorax,Fracture\na/0,1,0,1\n1.png,0,,0\n2.png,-1,0,0\n3.png,0,1.0,0\n"


@pytest.fixture
def sources(tmp_path: Path) -> ZeroShotSources:
    images = tmp_path / "films"
    for index in range(4):
        file = images / ("a/0.png" if index == 0 else f"{index}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chest_phantom(140, 130, index)).save(file)
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "prompts.json").write_text(json.dumps(PROMPTS))
    return ZeroShotSources(images, tmp_path / "labels.csv", str(tmp_path / "prompts.json"))


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def read(tiny: System, notes: list[str]) -> Callable[[ZeroShotSources], ZeroShotData]:
    bundle = open_bundle(tiny.bundle)
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)
    rule, joint = bundle.image_part().preprocessing, bundle.manifest.joint
    assert joint is not None
    return lambda sources: zero_shot_data(sources, tokenizer, rule, joint, note=notes.append)


def test_images_prompts_and_truth_belong_together(tiny: System, sources: ZeroShotSources, read, notes) -> None:
    data = read(sources)
    assert data.labels == ("Edema", "Pneumothorax")
    # In the order of the files.
    order = ["1.png", "2.png", "3.png", "a/0.png"]
    assert data.truth.tolist() == [[ABSENT, BLANK], [UNCERTAIN, ABSENT], [ABSENT, PRESENT], [PRESENT, ABSENT]]
    rule = open_bundle(tiny.bundle).image_part().preprocessing
    expected, _ = load_pixels([sources.images / name for name in order], rule)
    assert np.array_equal(data.pixels, [each.pixels for each in expected])
    tokenizer = Tokenizer(tiny.bundle / "text", open_bundle(tiny.bundle).text_part().tokenization)
    texts = ["Pulmonary edema", "Edema is seen", "No edema", "A pneumothorax", "No pneumothorax", "Lungs expanded"]
    assert data.rows == tokenizer.encode(texts)
    assert data.pad_token_id == tokenizer.pad_token_id
    assert notes == [f"{sources.labels}: left out of their label's figures: 1 uncertain value, 1 blank."]


def test_a_built_in_set_is_no_file(sources: ZeroShotSources, read, notes) -> None:
    assert [*sources.places()] == [sources.images, sources.labels, Path(sources.prompts)]
    chosen = replace(sources, prompts="chexpert")
    assert [*chosen.places()] == [sources.images, sources.labels]
    data = read(chosen)
    assert data.labels == ("Edema", "Fracture", "Pneumothorax")
    assert len(data.prompts) == 14
    assert any("no column of truth: Atelectasis" in note for note in notes)


def test_what_cannot_be_used_is_left_out_and_said(sources: ZeroShotSources, read, notes) -> None:
    (sources.images / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    shutil.copyfile(sources.images / "1.png", sources.images / "unlabelled.png")
    data = read(sources)
    assert len(data.pixels) == len(data.truth) == 3
    said = "\n".join(notes)
    assert "1 labelled image cannot be used and left out:\n" in said
    assert "2.png" in said
    assert "1 image without a row of labels: " in said


def refused(read, sources: ZeroShotSources, error: type[Exception]) -> str:
    with pytest.raises(error) as caught:
        read(sources)
    return str(caught.value)


def test_what_is_wrong_is_named(sources: ZeroShotSources, read, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert "there is no such folder" in refused(read, replace(sources, images=missing), CalibrationError)
    assert "cannot be read" in refused(read, replace(sources, labels=missing), InputError)
    assert "There is no prompt set 'heart'" in refused(read, replace(sources, prompts="heart"), InputError)
    assert "no column 'Path' of ids" in refused(read, replace(sources, id_column="Path"), InputError)
    prompts = tmp_path / "other.json"
    prompts.write_text(json.dumps({"Edema": {"positive": ["Edema [SEP]"], "negative": ["No edema"]}}))
    assert "label 'Edema', positive prompt 1" in refused(read, replace(sources, prompts=str(prompts)), InputError)


def test_labels_of_other_images_are_refused(sources: ZeroShotSources, read) -> None:
    sources.labels.write_text("id,Edema\nother,1\nanother,0\n")
    message = refused(read, sources, CalibrationError)
    assert f"No row of {sources.labels} belongs to an image of {sources.images}" in message
    assert "'other', 'another'" in message
    assert "--label-id-column" in message


def test_images_of_which_none_can_be_read_are_refused(sources: ZeroShotSources, read) -> None:
    for file in sources.images.rglob("*.png"):
        file.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    assert "no image with a row of labels can be used" in refused(read, sources, CalibrationError)


@pytest.mark.parametrize("values", [(1, 1, 1, 1), (0, 0, 0, 0), (1, -1, "", 1)])
def test_a_truth_without_an_auroc_is_refused(sources: ZeroShotSources, read, values) -> None:
    rows = "".join(f"{index}.png,{value}\n" for index, value in enumerate(values))
    sources.labels.write_text(f"id,Edema\n{rows}")
    assert "no label has both images with it (1) and images without it (0)" in refused(read, sources, CalibrationError)


def test_a_system_without_both_towers_is_refused(tiny: System) -> None:
    with pytest.raises(CalibrationError, match="'bert' does not embed both texts and images"):
        joint_of("'bert'", None)
    joint = open_bundle(tiny.bundle).manifest.joint
    assert joint_of("it", joint) is joint
