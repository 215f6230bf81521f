"""`python -m runtime`, called as a function for speed and once as a user calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.__main__ import main
from tests.conftest import System, run_module


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    (folder / "more").mkdir(parents=True)
    for index, name in enumerate(("b.png", "a.jpg", "more/c.png")):
        Image.fromarray(chest_phantom(140, 120, index)).save(folder / name)
    (folder / "notes.md").write_text("not an image")
    return folder


def test_embed_a_folder_as_npy_with_ids(tiny: System, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    run_module("runtime", "embed", str(tiny.bundle), str(films), "--out", str(out))
    ids = (tmp_path / "out.ids.txt").read_text().splitlines()
    assert ids == [str(films / name) for name in ("a.jpg", "b.png", "more/c.png")]
    expected = runtime.load(tiny.bundle, provider="cpu").image.encode(ids)
    assert np.abs(np.load(out) - expected).max() <= 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films", "out.ids.txt", "out.npy"]


def test_embed_texts_as_parquet(tiny: System, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "notes.csv").write_text('key,report\nk1,"No effusion,\nno edema."\nk2,Clear.\n')
    (tmp_path / "notes.jsonl").write_text('{"key": 3, "report": "Opacity"}\n\n')
    arguments = [str(tmp_path / "notes.csv"), str(tmp_path / "notes.jsonl"), "--column", "report", "--id-column", "key"]
    out = tmp_path / "out.parquet"
    assert main(["embed", str(tiny.bundle), *arguments, "--out", str(out)]) == 0
    table = parquet.read_table(out)
    assert table["id"].to_pylist() == ["k1", "k2", "3"]
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[128]"
    expected = runtime.load(tiny.bundle).text.encode(["No effusion,\nno edema.", "Clear.", "Opacity"])
    assert np.abs(np.array(table["embedding"].to_pylist()) - expected).max() <= 1e-6
    assert table.schema.metadata[b"precision"] == b"fp32"
    assert len(table.schema.metadata[b"model_digest"]) == 64
    assert b"pytorch_model.bin" in table.schema.metadata[b"weights"]


def test_embed_lines_of_a_file_of_standard_input_and_arguments(
    tiny: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    lines = tmp_path / "lines.txt"
    lines.write_text("one\n\nthree\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from stdin\n")))
    out = tmp_path / "out.npy"
    assert main(["embed", str(tiny.bundle), str(lines), "-", "--text", "given", "--out", str(out)]) == 0
    ids = (tmp_path / "out.ids.txt").read_text().splitlines()
    assert ids == ["text:1", f"{lines}:1", f"{lines}:2", f"{lines}:3", "-:1"]
    expected = runtime.load(tiny.bundle).text.encode(["given", "one", "", "three", "from stdin"])
    assert np.abs(np.load(out) - expected).max() <= 1e-6


def test_a_bad_file_stops_the_batch_and_is_named(tiny: System, films: Path, tmp_path: Path, capsys) -> None:
    for name in ("bad.png", "worse.png", "x1.png", "x2.png"):
        (films / name).write_bytes(b"nothing")
    out = tmp_path / "out.npy"
    assert main(["embed", str(tiny.bundle), str(films), "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert "4 of 7 images cannot be used" in message
    assert str(films / "bad.png") in message
    assert str(films / "x2.png") in message, "those after the first are named as well"
    assert "--skip-bad" in message
    assert not out.exists()


def test_skip_bad_does_the_rest_and_lists_the_bad(tiny: System, films: Path, tmp_path: Path, capsys) -> None:
    (films / "bad.png").write_bytes(b"nothing")
    out = tmp_path / "out.npy"
    assert main(["embed", str(tiny.bundle), str(films), "--out", str(out), "--skip-bad"]) == 0
    assert str(films / "bad.png") in capsys.readouterr().err
    assert np.load(out).shape == (3, 128)
    assert "bad.png" not in (tmp_path / "out.ids.txt").read_text()
    texts = tmp_path / "texts.txt"
    texts.write_text("good\n" * 300 + "[CLS]\n" + "1 " * 900 + "\ngood\n")
    assert main(["embed", str(tiny.bundle), str(texts), "--out", str(out), "--skip-bad"]) == 0
    message = capsys.readouterr().err
    assert np.load(out).shape == (301, 128)
    assert f"{texts}:301: contains the special token [CLS]" in message
    assert f"{texts}:302: 902 tokens" in message
    (films / "only").mkdir()
    (films / "only" / "bad.png").write_bytes(b"nothing")
    assert main(["embed", str(tiny.bundle), str(films / "only"), "--out", str(out), "--skip-bad"]) == 1


def test_embed_refuses_what_it_cannot_do_before_loading(tiny: System, films: Path, tmp_path: Path, capsys) -> None:
    def refused(*arguments: str) -> str:
        assert main(["embed", str(tiny.bundle), *arguments]) == 1
        return capsys.readouterr().err

    out = str(tmp_path / "out.npy")
    assert "'.csv'; .npy or .parquet" in refused("x.png", "--out", "out.csv")
    assert "does not exist. Create it" in refused("x.png", "--out", str(tmp_path / "absent" / "out.npy"))
    assert "nothing to embed" in refused("--out", out)
    assert f"Images ({films}) and texts (--text) came together" in refused(str(films), "--text", "x", "--out", out)
    (tmp_path / "a.csv").write_text("id,note\n1,x\n")
    assert "no column 'text'; it has: id, note" in refused(str(tmp_path / "a.csv"), "--out", out)
    assert "absent.txt" in refused(str(tmp_path / "absent.txt"), "--out", out)
    (tmp_path / "a.jsonl").write_text('{"text": 3}\n')
    assert f"{tmp_path / 'a.jsonl'}:1: a int came where a str" in refused(str(tmp_path / "a.jsonl"), "--out", out)
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n\n{"text": \n')
    assert "line 3 is not valid JSON" in refused(str(tmp_path / "a.jsonl"), "--out", out)
    (tmp_path / "a.csv").write_text("id,text\n,x\n")
    assert "row 1 has no id" in refused(str(tmp_path / "a.csv"), "--id-column", "id", "--out", out)
    (tmp_path / "a.csv").write_text('id,text\n1,"' + "x" * 200_000)
    assert "not valid CSV near line" in refused(str(tmp_path / "a.csv"), "--out", out)
    (tmp_path / "latin.txt").write_bytes("\xe9t\xe9".encode("latin-1"))
    assert "is not UTF-8" in refused(str(tmp_path / "latin.txt"), "--out", out)
    (tmp_path / "empty").mkdir()
    assert "holds nothing to embed" in refused(str(tmp_path / "empty"), "--text", "x", "--out", out)
    assert "pass it with --text" in refused("a long report " * 40, "--out", out)
    (tmp_path / "dir.npy").mkdir()
    assert "a folder of that name" in refused("--text", "x", "--out", str(tmp_path / "dir.npy"))
    assert sorted(path.suffix for path in tmp_path.glob("*.npy")) == [".npy"]
    assert "there is no such file" in refused(str(tmp_path / "absent.png"), "--out", out)


def test_a_missing_parquet_extra(tiny: System, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["embed", str(tiny.bundle), "--text", "x", "--out", str(tmp_path / "o.parquet")]) == 1
    assert "pip install 'cxr-engine[parquet]'" in capsys.readouterr().err


def test_skip_bad_lists_every_bad_item_and_survives_missing_extras(
    tiny: System, films: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out.npy")
    (tmp_path / "a.csv").write_text("id,text\n" + "1,good\n2,[SEP]\n3\n" * 25)
    assert main(["embed", str(tiny.bundle), str(tmp_path / "a.csv"), "--out", out, "--skip-bad"]) == 0
    assert capsys.readouterr().err.count("a.csv:") == 50
    assert np.load(out).shape == (25, 128)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (films / "d.dcm").write_bytes(b"anything")
    assert main(["embed", str(tiny.bundle), str(films), "--out", out]) == 1
    assert main(["embed", str(tiny.bundle), str(films), "--out", out, "--skip-bad"]) == 0
    assert "pip install 'cxr-engine[dicom]'" in capsys.readouterr().err
    assert np.load(out).shape == (3, 128)


def test_rejects_of_a_single_file_go_where_they_are_told(tiny: System, films: Path, tmp_path: Path, capsys) -> None:
    (films / "bad.png").write_bytes(b"nothing")
    out, rejects = tmp_path / "out.npy", tmp_path / "rejects.jsonl"
    # Options may stand before inputs, too.
    assert main(["embed", str(tiny.bundle), "--out", str(out), "--rejects", str(rejects), str(films)]) == 0
    (line,) = map(json.loads, rejects.read_text().splitlines())
    assert (line["id"], line["index"]) == (str(films / "bad.png"), 2)
    assert "not an image" in line["reason"]
    assert f"1 of 4 images cannot be used → {rejects}" in capsys.readouterr().err
    assert np.load(out).shape == (3, 128)
    assert main(["embed", str(tiny.bundle), "--text", "x", "--out", str(out), "--rejects", "r.txt"]) == 1
    assert "'.txt'; .jsonl is expected" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_file_names_that_are_not_unicode(tiny: System, films: Path, tmp_path: Path) -> None:
    import os

    (films / "b.png").rename(films / os.fsdecode(b"caf\xe9.png"))
    for name in ("o.npy", "o.parquet"):
        assert main(["embed", str(tiny.bundle), str(films), "--out", str(tmp_path / name)]) == 0
    assert os.fsencode(films) + b"/caf\xe9.png" in (tmp_path / "o.ids.txt").read_bytes().split(b"\n")


def test_similarity(tiny: System, films: Path, capsys) -> None:
    film = str(films / "b.png")
    assert main(["similarity", str(tiny.bundle), film, "fluid", "effusion", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = runtime.load(tiny.bundle).similarity(film, ["fluid", "effusion"])
    assert printed["similarity"] == pytest.approx(expected, abs=1e-6)
    assert main(["similarity", str(tiny.bundle), film, "fluid"]) == 0
    captured = capsys.readouterr()
    assert film in captured.out
    assert "Random weights" in captured.err


def test_ground_writes_picture_and_map(tiny: System, films: Path, tmp_path: Path, capsys) -> None:
    out, values = tmp_path / "over.png", tmp_path / "map.npy"
    arguments = [str(tiny.bundle), str(films / "b.png"), "left opacity", "--out", str(out), "--save-map", str(values)]
    assert main(["ground", *arguments]) == 0
    assert "image–text similarity" in capsys.readouterr().out
    assert Image.open(out).size[0] > 1000
    expected = runtime.load(tiny.bundle).similarity_map(films / "b.png", "left opacity")
    assert np.array_equal(np.load(values), expected, equal_nan=True)


def test_ground_refuses_what_it_cannot_do(tiny: System, films: Path, tmp_path: Path, capsys) -> None:
    film = str(films / "b.png")
    assert main(["ground", str(tiny.bundle), film, "x", "--out", "o.jpg"]) == 1
    assert "'.jpg'; .png is expected" in capsys.readouterr().err
    assert (
        main(["ground", str(tiny.bundle), film, "x", "--out", str(tmp_path / "o.png"), "--save-map", "no/x.npy"]) == 1
    )
    assert "does not exist" in capsys.readouterr().err
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(tmp_path / "dot.png")
    assert main(["ground", str(tiny.bundle), str(tmp_path / "dot.png"), "x", "--out", str(tmp_path / "o.png")]) == 1
    assert "2 × 1 pixels: too few" in capsys.readouterr().err
    assert not (tmp_path / "o.png").exists()


def test_ground_without_matplotlib(tiny: System, films: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["ground", str(tiny.bundle), str(films / "b.png"), "x", "--out", str(tmp_path / "o.png")]) == 1
    assert "pip install 'cxr-engine[plot]'" in capsys.readouterr().err


def test_help_and_wrong_usage() -> None:
    assert "embed" in run_module("runtime", "--help").stdout
    assert "invalid choice" in run_module("runtime", "dance", expect=2).stderr
    assert "Traceback" not in run_module("runtime", "info", "/nowhere", expect=1).stderr
    wrong = run_module("runtime", "embed", "b", "--out", "o", "--oops", "x", expect=2)
    assert "unrecognized arguments: --oops" in wrong.stderr
    assert "unrecognized arguments: more" in run_module("runtime", "info", "b", "more", expect=2).stderr
