"""Folders of parts: what is in them, how they are resumed, when they are refused."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.archive import Stream
from runtime.archive.embed import embed_to_folder
from runtime.archive.folder import Archive
from runtime.archive.items import Source
from runtime.files import Item, sha256_file
from tests.conftest import System, edit_json
from tests.runtime.archives import BAD_EVERY, contents, embed, rejects, write_reports

parquet = pytest.importorskip("pyarrow.parquet")
dataset = pytest.importorskip("pyarrow.dataset")

MODEL_COLUMNS = ("model_digest", "provider", "precision")


def test_parts_hold_ids_embeddings_and_what_made_them(tiny: System, tmp_path: Path, capsys) -> None:
    reports = write_reports(tmp_path / "reports.csv", 50)
    out = tmp_path / "out"
    arguments = (reports, "--column", "report", "--id-column", "study", "--out", out, "--part-rows", 20)
    assert embed(tiny.bundle, *arguments) == 0
    captured = capsys.readouterr()
    assert f"43 text embeddings → 3 parts in {out}" in captured.out
    assert f"7 of 50 texts cannot be used → {out / '_rejects.jsonl'}" in captured.err
    table = dataset.dataset(out).to_table()  # which passes over the other files
    good = [index for index in range(50) if index % BAD_EVERY != 3]
    assert table["id"].to_pylist() == [f"s{index}" for index in good]
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[128]"
    expected = runtime.load(tiny.bundle, provider="cpu").text.encode(["no effusion " * (index % 23) for index in good])
    assert np.abs(np.array(table["embedding"].to_pylist()) - expected).max() <= 1e-6
    assert parquet.read_table(out).equals(table)
    for name, value in zip(MODEL_COLUMNS, (None, "cpu", "fp32"), strict=True):
        (only,) = set(table[name].to_pylist())
        assert value is None or only == value
        assert str(table.schema.field(name).type).startswith("dictionary<values=string")
        assert table.schema.metadata[name.encode()].decode() == only
    assert [line["index"] for line in rejects(out)] == list(range(3, 50, BAD_EVERY))
    assert rejects(out)[0]["id"] == "s3"
    assert "[SEP]" in str(rejects(out)[0]["reason"])
    before = contents(out)
    assert embed(tiny.bundle, *arguments, "--resume") == 0
    assert "All of it was done before" in capsys.readouterr().err
    assert contents(out) == before


@pytest.fixture
def begun(tiny: System, tmp_path: Path) -> Path:
    """A folder with the first of three parts, of an otherwise finished run."""
    reports = write_reports(tmp_path / "reports.csv", 50)
    out = tmp_path / "out"
    assert embed(tiny.bundle, reports, "--column", "report", "--out", out, "--part-rows", 20) == 0
    edit_json(out / "_job.json", lambda job: job.update(finished=None))
    for number in (1, 2):
        (out / f"part-{number:05d}.parquet").unlink()
    return out


def test_a_folder_in_use_is_refused(tiny: System, begun: Path, tmp_path: Path, capsys) -> None:
    arguments = (tmp_path / "reports.csv", "--column", "report", "--out", begun, "--part-rows", 20)
    assert embed(tiny.bundle, *arguments) == 1
    assert "is not empty: a run was begun there. Go on with it by the same command and --resume" in (
        capsys.readouterr().err
    )
    settings = json.loads((begun / "_job.json").read_text())["settings"]
    with Archive(begun, settings, {}, resume=True) as archive:
        assert archive.items == 20
        assert embed(tiny.bundle, *arguments, "--resume") == 1
        assert "Another process is writing" in capsys.readouterr().err
    assert embed(tiny.bundle, *arguments, "--resume") == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").touch()
    for extra in ([], ["--resume"]):
        assert embed(tiny.bundle, "--text", "x", "--out", tmp_path / "mine", *extra) == 1
        assert "holds no run to resume (it has thesis.doc)" in capsys.readouterr().err


def test_another_model_or_option_is_refused_by_name(tiny: System, tiny_copy: Path, begun: Path, capsys) -> None:
    reports = begun.parent / "reports.csv"
    before = contents(begun)

    def refused(bundle: Path, *arguments: object) -> str:
        assert embed(bundle, *arguments, "--out", begun, "--resume") == 1
        message = capsys.readouterr().err
        assert "cannot be resumed: this is not what it was begun with" in message
        return message

    same = (reports, "--column", "report", "--part-rows", 20)
    edit_json(tiny_copy / "text" / "special_tokens_map.json", lambda tokens: tokens.update(pad_token="[UNK]"))
    changed = sha256_file(tiny_copy / "text" / "special_tokens_map.json")
    size = (tiny_copy / "text" / "special_tokens_map.json").stat().st_size
    edit_json(
        tiny_copy / "manifest.json",
        lambda data: data["files"]["text/special_tokens_map.json"].update(sha256=changed, bytes=size),
    )
    message = refused(tiny_copy, *same)
    assert "model_digest: " in message
    assert "provider" not in message
    assert "part_rows: 20 then, 30 now" in refused(tiny.bundle, *same, "--part-rows", 30)
    assert "column: report then, study now" in refused(tiny.bundle, *same, "--column", "study")
    assert "provider: cpu then, openvino now" in refused(tiny.bundle, *same, "--provider", "openvino")
    assert f"inputs: {reports} then, --text, {reports} now" in refused(tiny.bundle, *same, "--text", "x")
    assert contents(begun) == before
    assert embed(tiny.bundle, *same, "--out", begun, "--resume") == 0


def test_a_changed_input_is_refused(tiny: System, begun: Path, capsys) -> None:
    reports = begun.parent / "reports.csv"
    arguments = (reports, "--column", "report", "--part-rows", 20, "--out", begun, "--resume")
    content, status = reports.read_text(), reports.stat()
    reports.write_text(content + "s50,More.\n")
    assert embed(tiny.bundle, *arguments) == 1
    assert f"{reports} changed: bytes {status.st_size} then, {status.st_size + 10} now" in capsys.readouterr().err
    reports.write_text(content.replace("no effusion", "on effusion", 1))
    os.utime(reports, ns=(status.st_atime_ns, status.st_mtime_ns))  # not even the time of change tells
    assert embed(tiny.bundle, *arguments) == 1
    assert "items 0 to 19 are no longer those that part-00000.parquet was made of" in capsys.readouterr().err
    reports.write_text(content)
    os.utime(reports, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert embed(tiny.bundle, *arguments) == 0


def test_parts_and_rejects_that_are_gone_or_broken_are_named(tiny: System, begun: Path, capsys) -> None:
    arguments = (begun.parent / "reports.csv", "--column", "report", "--part-rows", 20, "--out", begun, "--resume")
    (begun / "part-00000.parquet").rename(begun / "part-00001.parquet")
    assert embed(tiny.bundle, *arguments) == 1
    assert "part-00000.parquet is gone, but later parts are there" in capsys.readouterr().err
    (begun / "part-00001.parquet").rename(begun / "part-00000.parquet")
    lines = (begun / "_rejects.jsonl").read_bytes()
    (begun / "_rejects.jsonl").write_bytes(lines[:10])
    assert embed(tiny.bundle, *arguments) == 1
    assert "_rejects.jsonl has 10 bytes where the parts know of" in capsys.readouterr().err
    (begun / "_rejects.jsonl").write_bytes(lines)
    (begun / "part-00000.parquet").write_bytes(b"PAR1")
    assert embed(tiny.bundle, *arguments) == 1
    assert "part-00000.parquet cannot be read" in capsys.readouterr().err
    (begun / "part-00000.parquet").unlink()
    assert embed(tiny.bundle, *arguments) == 0
    assert len(rejects(begun)) == 7


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    (folder / "more").mkdir(parents=True)
    for index in range(6):
        Image.fromarray(chest_phantom(140, 120, index)).save(folder / ("more" if index > 3 else ".") / f"{index}.png")
    (folder / "2.png").write_bytes(b"nothing")
    return folder


def test_images_are_rejected_by_path_and_a_mended_reject_is_no_change(
    tiny: System, films: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    arguments = (films, "--out", out, "--part-rows", 3)
    assert embed(tiny.bundle, *arguments) == 0
    ids = [str(films / name) for name in ("0.png", "1.png", "3.png", "more/4.png", "more/5.png")]
    table = parquet.read_table(out)
    assert table["id"].to_pylist() == ids
    expected = runtime.load(tiny.bundle, provider="cpu").image.encode(ids)
    assert np.abs(np.array(table["embedding"].to_pylist()) - expected).max() <= 1e-6
    (line,) = rejects(out)
    assert (line["id"], line["index"]) == (str(films / "2.png"), 2)
    edit_json(out / "_job.json", lambda job: job.update(finished=None))
    (out / "part-00001.parquet").unlink()
    (films / "2.png").write_bytes((films / "1.png").read_bytes())
    assert embed(tiny.bundle, *arguments, "--resume") == 0
    assert parquet.read_table(out)["id"].to_pylist() == ids
    edit_json(out / "_job.json", lambda job: job.update(finished=None))
    Image.fromarray(chest_phantom(140, 120, 9)).save(films / "1.png")
    assert embed(tiny.bundle, *arguments, "--resume") == 1
    assert "items 0 to 2 are no longer those" in capsys.readouterr().err
    (films / "7.png").write_bytes((films / "1.png").read_bytes())
    assert embed(tiny.bundle, *arguments, "--resume") == 1
    assert f"{films} changed: files 6 then, 7 now" in capsys.readouterr().err


def test_a_missing_package_stops_the_run_which_is_resumed_once_it_is_there(
    tiny: System, films: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (films / "more" / "z.dcm").write_bytes(b"no DICOM")
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pydicom", None)
        assert embed(tiny.bundle, films, "--out", out, "--part-rows", 3) == 1
        message = capsys.readouterr().err
        assert "pip install 'cxr-engine[dicom]'" in message
        assert "Stopped with 2 parts (6 items)" in message
        skipping = (films, "--out", tmp_path / "skipping", "--part-rows", 3, "--skip-bad")
        assert embed(tiny.bundle, *skipping) == 0
        assert "cxr-engine[dicom]" in str(rejects(tmp_path / "skipping")[1]["reason"])
    assert embed(tiny.bundle, films, "--out", out, "--part-rows", 3, "--resume") == 0
    assert [line["index"] for line in rejects(out)] == [2, 6]
    assert "cxr-engine" not in str(rejects(out)[1]["reason"])


def test_no_header_of_a_dicom_file_is_written(tiny: System, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian

    pixels = chest_phantom(140, 120, 3)
    for name, content in (("good.dcm", pixels.tobytes()), ("cut.dcm", pixels.tobytes()[:100])):
        image = pydicom.Dataset()
        image.PatientName, image.PatientID, image.StudyInstanceUID = "Secret^Person", "ID-SECRET", "1.2.777.888"
        image.Rows, image.Columns = pixels.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 8
        image.HighBit, image.PixelRepresentation, image.PixelData = 7, 0, content
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        image.file_meta.MediaStorageSOPInstanceUID = "1.2.777.999"
        image.save_as(tmp_path / name, enforce_file_format=True)
    out = tmp_path / "out"
    assert embed(tiny.bundle, tmp_path, "--out", out) == 0
    assert [line["id"] for line in rejects(out)] == [str(tmp_path / "cut.dcm")]
    for name, content in contents(out).items():
        for secret in (b"Secret", b"SECRET", b"1.2.777"):
            assert secret not in content, name


def test_items_are_taken_part_by_part(tiny: System, tmp_path: Path) -> None:
    """No more than a part of a long stream is held: when an item is taken, all parts before its own are on the disk."""
    out, rows = tmp_path / "out", 8

    def read() -> Iterator[Item]:
        for index in range(60):
            assert len(list(out.glob("part-*"))) == index // rows
            yield Item(str(index), "no effusion")

    engine = runtime.load(tiny.bundle, provider="cpu", parts=["text"])
    stream = Stream("text", (Source("stream", "text", read, None, {"name": "stream"}),))
    embed_to_folder(engine, stream, out, rows, {}, resume=False, skip_bad=False)
    assert len(list(out.glob("part-*"))) == 8


def test_what_a_run_leaves_that_was_killed_at_once_is_no_obstacle(tiny: System, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in (".lock", "._job.json.partial-17"):
        (out / name).touch()
    assert embed(tiny.bundle, "--text", "x", "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == [".lock", "_job.json", "part-00000.parquet"]


def test_standard_input_is_compared_on_resuming(
    tiny: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = tmp_path / "out"
    lines = [f"no effusion {index}" for index in range(30)]

    def pipe(content: list[str], *arguments: object) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(content).encode())))
        return embed(tiny.bundle, "-", "--out", out, "--part-rows", 10, *arguments)

    assert pipe([]) == 1
    assert "- held no items" in capsys.readouterr().err
    assert pipe(lines, "--resume") == 0
    whole = contents(out)
    edit_json(out / "_job.json", lambda job: job.update(finished=None))
    (out / "part-00002.parquet").unlink()
    assert pipe([*lines[:12], "changed", *lines[13:]], "--resume") == 1
    assert "items 10 to 19 are no longer those that part-00001.parquet was made of" in capsys.readouterr().err
    assert pipe(lines, "--resume") == 0
    assert contents(out) == whole


def test_folders_that_cannot_be_written_are_refused_first(tiny: System, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert embed(tiny.bundle, "--text", "x", "--out", tmp_path / "file") == 1
    assert "a file of that name is in the way" in capsys.readouterr().err
    assert embed(tiny.bundle, "--text", "x", "--out", tmp_path / "no" / "out") == 1
    assert "does not exist. Create it first" in capsys.readouterr().err
    assert embed(tiny.bundle, "--text", "x", "--out", tmp_path / "out", "--rejects", tmp_path / "r.jsonl") == 1
    assert "a folder gets its own _rejects.jsonl" in capsys.readouterr().err
    assert embed(tiny.bundle, "--text", "x", "--out", tmp_path / "out.npy", "--resume") == 1
    assert "cannot be resumed: it is one file" in capsys.readouterr().err
    assert embed(tiny.bundle, "--text", "[SEP]", "--out", f"{tmp_path}/v1.1/") == 1
    assert "Nothing could be embedded" in capsys.readouterr().err
