"""`python -m runtime ground`: one run of the network, boxes measured and drawn, films the right way up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.__main__ import main
from runtime.tasks.grounding import Box, score_grounding
from tests.runtime.handmade import fp32, write_bundle
from tests.runtime.sessions import watch_runs

PHRASE = "left opacity"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("ground") / "bundle", [fp32()], [fp32()])


@pytest.fixture
def film(tmp_path: Path) -> Path:
    file = tmp_path / "chest.png"
    Image.fromarray(chest_phantom(140, 120, 2)).save(file)
    return file


def ground(bundle: Path, film: Path, *options: str) -> int:
    out = str(film.parent / "picture.png")
    return main(["ground", str(bundle), str(film), PHRASE, "--provider", "cpu", "--out", out, *options])


def test_score_and_map_come_from_one_run(bundle: Path, film: Path, monkeypatch, capsys) -> None:
    runs = watch_runs(monkeypatch, lambda session, inputs: tuple(inputs))
    assert ground(bundle, film) == 0
    assert runs.count(("pixel_values",)) == 1
    assert "strongest patch" in capsys.readouterr().out


def test_boxes_are_measured_and_drawn(bundle: Path, film: Path, capsys) -> None:
    assert ground(bundle, film, "--box", "30,40,20,30", "--box", "60,70.5,20,30", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    engine = runtime.load(bundle, provider="cpu")
    values = engine.similarity_map(film, PHRASE)
    expected = score_grounding(values, [Box(30, 40, 20, 30), Box(60, 70.5, 20, 30)])
    assert found["similarity"] == pytest.approx(engine.similarity(film, PHRASE), abs=1e-6)
    assert found["cnr"] == pytest.approx(expected.cnr, rel=1e-6)
    assert found["absolute_cnr"] == pytest.approx(abs(expected.cnr), rel=1e-6)
    assert found["miou"] == pytest.approx(expected.miou)
    assert found["pointing_game"] == pytest.approx(expected.pointing)
    assert list(found["iou"].values()) == pytest.approx(expected.ious)
    strongest = found["strongest_patch"]
    assert values[int(strongest["y"]), int(strongest["x"])] == pytest.approx(strongest["similarity"], abs=1e-6)
    assert strongest["similarity"] == pytest.approx(float(np.nanmax(values)), abs=1e-6)
    with_boxes = Image.open(film.parent / "picture.png").tobytes()
    assert ground(bundle, film) == 0
    assert "CNR" not in capsys.readouterr().out
    assert Image.open(film.parent / "picture.png").tobytes() != with_boxes


def test_a_box_over_the_edge_is_cut_off_and_said_to_be(bundle: Path, film: Path, capsys) -> None:
    assert ground(bundle, film, "--box=-10,40,50,30", "--json") == 0
    captured = capsys.readouterr()
    assert "--box -10,40,50,30 is cut off at the edge of the image of 120 × 140 pixels." in captured.err
    over = json.loads(captured.out)
    assert ground(bundle, film, "--box", "0,40,40,30", "--json") == 0
    captured = capsys.readouterr()
    assert "cut off" not in captured.err
    assert over["cnr"] == json.loads(captured.out)["cnr"]


def test_boxes_that_cannot_be_are_named_together(bundle: Path, film: Path, capsys) -> None:
    assert ground(bundle, film, "--box", "1,2,3", "--box", "1,2,0,5", "--box", "1,2,3,4", "--box", "a,b,c,d") == 1
    printed = capsys.readouterr().err
    assert "3 of 4 boxes cannot be used" in printed
    assert "[0] --box 1,2,3: four numbers are expected" in printed
    assert "[1] --box 1,2,0,5: The box 1,2,0,5 has no area" in printed
    assert "[3] --box a,b,c,d: four numbers" in printed
    assert ground(bundle, film, "--box", "5,5,9,9", "--box", "120,0,10,10") == 1
    printed = capsys.readouterr().err
    assert "[1] --box 120,0,10,10: lies outside the image of 120 × 140 pixels" in printed
    assert not (film.parent / "picture.png").exists()


def test_a_box_that_the_model_does_not_see_has_no_figures(bundle: Path, film: Path, capsys) -> None:
    assert ground(bundle, film, "--box", "0,0,10,10", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cnr"] is found["miou"] is found["pointing_game"] is None
    assert ground(bundle, film, "--box", "0,0,10,10") == 0
    printed = capsys.readouterr().out
    assert "the boxes lie outside what the model sees: nothing is measured" in printed
    assert "nan" not in printed


def test_monochrome1_is_drawn_the_right_way_up(bundle: Path, tmp_path: Path) -> None:
    """In MONOCHROME1 0 is white: a bright upper half is stored with small values."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    stored = np.full((140, 120), 3000, dtype=np.uint16)
    stored[:70] = 500
    stored[0, 0], stored[-1, -1] = 0, 4095
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = tmp_path / "chest.dcm"
    header = FileDataset(file, {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.PatientName, header.Modality, header.PhotometricInterpretation = "Doe^Jane", "CR", "MONOCHROME1"
    header.Rows, header.Columns = stored.shape
    header.SamplesPerPixel, header.BitsAllocated, header.BitsStored, header.HighBit = 1, 16, 12, 11
    header.PixelRepresentation = 0
    header.PixelData = stored.tobytes()
    header.save_as(file, enforce_file_format=True)

    def brightness() -> np.ndarray:
        picture = np.asarray(Image.open(tmp_path / "picture.png").convert("L")).astype(float)
        left = picture[:, int(picture.shape[1] * 0.05) : int(picture.shape[1] * 0.08)]  # outside the crop
        rows = np.linspace(0.3, 0.85, 5) * picture.shape[0]
        return left[rows.astype(int)].mean(axis=1)

    assert ground(bundle, file) == 0
    upright = brightness()
    assert upright[0] > upright[-1] + 80
    assert ground(bundle, file, "--keep-monochrome1") == 0
    inverted = brightness()
    assert inverted[0] < inverted[-1] - 80
    assert b"Doe" not in (tmp_path / "picture.png").read_bytes()
