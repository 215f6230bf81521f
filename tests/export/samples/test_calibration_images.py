"""The images that int8 is calibrated with and judged by: chosen once, never the same on both sides."""

from __future__ import annotations

import hashlib
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import export.samples.candidates
from export.errors import CalibrationError
from export.samples import CalibrationData, chest_phantom, image_data
from export.samples.films import varied_films
from runtime.bundle.parts import Preprocessing
from runtime.errors import MissingExtraError
from runtime.image.images import load_pixels
from tests.runtime.parts import grey_rule
from tests.runtime.trees import scan_in_order

RESIZE, CROP = 64, 48


@pytest.fixture
def notes() -> list[str]:
    return []


def refused(source: Path | None, **options: int) -> str:
    with pytest.raises(CalibrationError) as caught:
        image_data(source, grey_rule(RESIZE, CROP), note=lambda text: None, **options)
    return str(caught.value)


def write_films(folder: Path, number: int, side: int = 80) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{index:03}.png" for index in range(number)]
    for index, file in enumerate(files):
        Image.fromarray(chest_phantom(side + index % 7, side, index)).save(file)
    return files


def same_images(data: CalibrationData, other: CalibrationData) -> bool:
    return np.array_equal(data.calibration, other.calibration) and np.array_equal(data.held_out, other.held_out)


def contents(data: CalibrationData) -> set[bytes]:
    return {pixels.tobytes() for pixels in (*data.calibration, *data.held_out)}


def test_built_in_images_are_distinct_varied_and_seeded(notes: list[str]) -> None:
    shares: list[float] = []
    data = image_data(None, grey_rule(RESIZE, CROP), note=notes.append, progress=shares.append)
    assert data.calibration.shape == (96, CROP, CROP)
    assert data.held_out.shape == (64, CROP, CROP)
    assert data.calibration.dtype == data.held_out.dtype == np.uint8
    assert len(contents(data)) == 160
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(notes) == 1
    assert "--calibration-images DIR" in notes[0]
    again = image_data(None, grey_rule(RESIZE, CROP), note=notes.append)
    assert same_images(data, again)
    assert data.record == again.record
    assert not contents(data) & contents(image_data(None, grey_rule(RESIZE, CROP), seed=1, note=notes.append))
    # One film under many exposures has means about 127 ± 10 once its values are stretched.
    assert data.calibration.mean(axis=(1, 2)).std() > 20


def test_films_have_many_sizes_and_borders() -> None:
    films = list(islice(varied_films(100, 0), 40))
    sizes = {film.shape for film in films}
    assert len(sizes) > 30
    assert any(height < width for height, width in sizes)
    assert min(map(min, sizes)) < 70
    assert max(map(min, sizes)) > 110
    edges = [edge for film in films for edge in (film[0], film[-1], film[:, 0], film[:, -1])]
    assert any((edge == 255).all() for edge in edges)
    assert any((edge == 0).all() for edge in edges)


def test_images_of_a_folder_are_prepared_as_the_runtime_does(tmp_path: Path, notes: list[str]) -> None:
    files = [*write_films(tmp_path / "a", 15), *write_films(tmp_path / "b" / "c", 15, 90)]
    (tmp_path / "notes.txt").write_text("no image")
    data = image_data(tmp_path, grey_rule(RESIZE, CROP), count=16, held_out=14, note=notes.append)
    expected = [item.pixels for item in load_pixels(files, grey_rule(RESIZE, CROP))[0]]
    assert contents(data) == {pixels.tobytes() for pixels in expected}
    assert len(contents(data)) == 30
    assert notes == [f"{tmp_path}: 1 file is passed over: no image: 1 ({tmp_path / 'notes.txt'})."]
    assert (data.record.kind, data.record.name) == ("folder", tmp_path.name)
    assert data.record.sha256 == hashlib.sha256(data.calibration.tobytes()).hexdigest()
    assert data.record.held_out_sha256 == hashlib.sha256(data.held_out.tobytes()).hexdigest()
    other = image_data(tmp_path, grey_rule(RESIZE, CROP), count=16, held_out=14, seed=1, note=notes.append)
    assert other.record.sha256 != data.record.sha256
    moved = image_data(
        tmp_path.rename(tmp_path.with_name("moved")), grey_rule(RESIZE, CROP), count=16, held_out=14, note=notes.append
    )
    assert same_images(moved, data)
    assert (moved.record.sha256, moved.record.name) == (data.record.sha256, "moved")


@pytest.mark.parametrize("backwards", [False, True])
def test_the_order_of_the_file_system_does_not_matter(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch, backwards: bool
) -> None:
    for name, side in (("a", 80), ("b", 90)):
        write_films(tmp_path / name, 15, side)
    expected = image_data(tmp_path, grey_rule(RESIZE, CROP), count=16, held_out=8, note=notes.append)
    scan_in_order(monkeypatch, backwards)
    assert same_images(image_data(tmp_path, grey_rule(RESIZE, CROP), count=16, held_out=8, note=notes.append), expected)


def test_what_archives_hold_calibrates_too(tmp_path: Path, notes: list[str]) -> None:
    """Files without suffix, and linked folders."""
    for index, file in enumerate(write_films(tmp_path / "elsewhere", 24)):
        file.rename(file.with_name(f"IM{index:06}"))
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "p10").symlink_to(tmp_path / "elsewhere")
    assert image_data(tmp_path / "films", grey_rule(RESIZE, CROP), note=notes.append).record.items == 16
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").write_text("no image")
    with pytest.raises(CalibrationError, match=r"holds no images \(1 file is passed over: no image: 1 \(.*a\.txt\)\)"):
        image_data(tmp_path / "none", grey_rule(RESIZE, CROP), note=notes.append)


def test_unreadable_images_are_named_and_repeats_dropped(tmp_path: Path, notes: list[str]) -> None:
    files = write_films(tmp_path / "films", 24)
    (tmp_path / "films" / "bad.png").write_bytes(b"nothing")
    Image.new("L", (90, 90), 7).save(tmp_path / "films" / "flat.png")
    for index, file in enumerate(files[:3]):
        (tmp_path / "films" / f"copy{index}.png").write_bytes(file.read_bytes())
    data = image_data(tmp_path / "films", grey_rule(RESIZE, CROP), note=notes.append)
    assert len(contents(data)) == 24
    assert (data.record.items, data.record.held_out, data.record.skipped) == (16, 8, 2)
    assert "2 of 29 images looked at cannot be used" in notes[0]
    assert f"{tmp_path / 'films' / 'bad.png'}: not an image" in notes[0]
    assert f"{tmp_path / 'films' / 'flat.png'}: is constant" in notes[0]
    assert "3 of the images repeat others" in notes[1]
    assert "24 usable, distinct images instead of the 160 wanted" in notes[2]


def test_only_as_many_images_are_read_as_are_needed(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_films(tmp_path, 60)
    read: list[object] = []

    def counting(images: list[object], rule: Preprocessing) -> object:
        read.extend(images)
        return load_pixels(images, rule)

    monkeypatch.setattr(export.samples.candidates, "load_pixels", counting)
    image_data(tmp_path, grey_rule(RESIZE, CROP), count=16, held_out=8, note=notes.append)
    assert len(read) == 24
    assert max(read) > tmp_path / "040.png", "from the whole folder, not from its beginning"


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(path: Path) -> str:
        text = refused(path)
        assert text.startswith(f"{path}: ")
        return text

    assert "there is no such folder. A folder with JPEG" in message(tmp_path / "absent")
    films = tmp_path / "films"
    file = write_films(films, 23)[0]
    assert "is not a folder. A folder with JPEG" in message(file)
    (tmp_path / "empty").mkdir()
    assert "holds no images. A folder with JPEG" in message(tmp_path / "empty")
    (films / "bad.png").write_bytes(b"nothing")
    few = message(films)
    assert "23 usable, distinct images (1 cannot be used, 0 repeat others); at least 24 are expected" in few
    assert f"{films / 'bad.png'}: not an image" in few
    assert "15 images to calibrate with" in refused(None, count=15)
    assert "7 images to judge by" in refused(None, held_out=7)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (films / "d.dcm").write_bytes(b"anything")
    with pytest.raises(MissingExtraError, match=r"cxr-engine\[dicom\]"):
        image_data(films, grey_rule(RESIZE, CROP), note=lambda text: None)
