"""What is unusual in files is said once, then counted."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

import runtime
from export.samples import chest_phantom
from runtime.__main__ import main
from runtime.errors import InputError
from runtime.process.notices import Notice, Notices
from tests.runtime.handmade import fp32, write_bundle

CT, BARE = Notice("a CT", "is a CT"), Notice("no header", "has no header")


def test_a_kind_is_said_for_the_first_the_tenth_the_hundredth_file(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for number in range(1234):
        notices.add(f"{number}.dcm", [CT, BARE] if number < 2 else [CT])
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "0.dcm: is a CT",
        "0.dcm: has no header",
        "10 images by now: a CT (the last is 9.dcm)",
        "100 images by now: a CT (the last is 99.dcm)",
        "1,000 images by now: a CT (the last is 999.dcm)",
    ]
    assert notices.counts() == {"a CT": 1234, "no header": 2}
    assert notices.summary() == ["1,234 images in all: a CT", "2 images in all: no header"]


def test_a_file_that_is_read_again_is_not_counted_again(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for _ in range(20):
        notices.add("a.dcm", [CT])
    assert notices.counts() == {"a CT": 1}
    assert notices.summary() == [], "it was said when it was met"
    assert len(caplog.records) == 1


def test_the_command_line_says_them_and_counts_at_the_end(tmp_path: Path, caplog, capsys) -> None:
    pytest.importorskip("pydicom")
    from tests.runtime.dicoms import write_dicom

    bundle = write_bundle(tmp_path / "bundle", text=[fp32()], image=[fp32()])
    films = tmp_path / "films"
    films.mkdir()
    for number in range(23):
        modality = {0: "US", 22: "DX"}.get(number, "CT")
        write_dicom(films / f"{number:02}.dcm", chest_phantom(100, 110, number), Modality=modality)
    assert main(["embed", str(bundle), str(films), "--out", str(tmp_path / "o.npy")]) == 0
    assert "21 images in all: no radiographs by their modality (CT)" in capsys.readouterr().err.splitlines()
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 3, "the first CT, the tenth, and the ultrasound"
    assert np.load(tmp_path / "o.npy").shape[0] == 23


def test_the_engine_takes_the_options_and_refuses_wrong_ones(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.runtime.dicoms import write_dicom

    bundle = write_bundle(tmp_path / "bundle", image=[fp32()])
    film = chest_phantom(100, 110).astype(np.uint16)
    frames = write_dicom(tmp_path / "a.dcm", np.stack([film, film[::-1]]), NumberOfFrames=2)
    second = runtime.load(bundle, provider="cpu", dicom_frame=2).image
    usual = runtime.load(bundle, provider="cpu")
    assert np.allclose(second.encode(frames), usual.image.encode(film[::-1]))
    with pytest.raises(InputError, match="holds 2 frames"):
        usual.image.encode(frames)
    window = write_dicom(tmp_path / "b.dcm", film, WindowCenter="90", WindowWidth="40")
    windowed = runtime.load(bundle, provider="cpu", voi_lut=True).image
    assert np.allclose(windowed.encode(window), usual.image.encode(np.clip((film - 89.5) / 39, -0.5, 0.5)), atol=1e-3)
    assert not np.allclose(windowed.encode(window), usual.image.encode(window), atol=1e-3)
    assert windowed.dicom.voi_lut
    with pytest.raises(InputError, match=r"dicom_frame=0.*pixel_padding='no'"):
        runtime.load(bundle, dicom_frame=0, pixel_padding="no")


def test_a_resumed_run_must_read_dicom_the_same_way(tmp_path: Path, capsys) -> None:
    pytest.importorskip("pydicom")
    pytest.importorskip("pyarrow")
    from tests.runtime.dicoms import write_dicom

    bundle = write_bundle(tmp_path / "bundle", text=[fp32()], image=[fp32()])
    write_dicom(tmp_path / "a.dcm", chest_phantom(100, 110))
    arguments = ["embed", str(bundle), str(tmp_path / "a.dcm"), "--out", str(tmp_path / "out"), "--resume"]
    assert main(arguments) == 0
    assert main([*arguments, "--voi-lut", "--frame", "2", "--pixel-padding", "keep"]) == 1
    message = capsys.readouterr().err
    for line in ("frame: None then, 2 now", "voi_lut: False then, True now", "pixel_padding: auto then, keep now"):
        assert line in message
