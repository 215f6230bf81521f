"""`python -m runtime classify` on a small bundle."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, roc_auc_score

import runtime
from export.samples import chest_phantom
from runtime.__main__ import main
from tests.runtime.handmade import fp32, write_bundle

PROMPTS = {
    "Effusion": {"positive": ["pleural effusion", "small effusion"], "negative": ["no effusion", "clear"]},
    "Opacity": {"positive": ["left opacity"], "negative": ["no opacity", "clear lungs", "no"]},
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("classify"), text=[fp32()], image=[fp32()])


@pytest.fixture(scope="module")
def engine(bundle: Path) -> runtime.Engine:
    return runtime.load(bundle, provider="cpu")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    (folder / "more").mkdir(parents=True)
    for index, name in enumerate(("e.png", "a.jpg", "c.png", "d.png", "more/c.png", "more/b.png", "more/f.png")):
        Image.fromarray(chest_phantom(140, 120, index)).save(folder / name)
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(PROMPTS), encoding="utf-8")
    return file


def read(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Header, ids and probabilities of a file that was written."""
    with path.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    return header, [row[0] for row in rows], np.array([row[1:] for row in rows], np.float32)


@pytest.mark.parametrize("rule", ["biovil", "chexzero"])
def test_the_file_has_the_probabilities_of_engine_classify(
    bundle: Path, engine: runtime.Engine, films: Path, prompts: Path, tmp_path: Path, rule: str, capsys
) -> None:
    out = tmp_path / "out.csv"
    arguments = [str(bundle), str(films), "--prompts", str(prompts), "--rule", rule, "--out", str(out)]
    assert main(["classify", *arguments, "--provider", "cpu"]) == 0
    header, ids, found = read(out)
    assert header == ["id", "Effusion", "Opacity"]
    assert ids == sorted(str(path) for path in films.rglob("*.*"))
    expected = [list(row.values()) for row in engine.classify(ids, PROMPTS, rule)]
    assert found == pytest.approx(np.array(expected), abs=1e-6)
    assert len(np.unique(found)) == found.size, "or their order could not be seen"
    assert f"7 images, 2 labels → {out}  [cpu, {rule}]" in capsys.readouterr().out


def test_the_rule_matters(bundle: Path, films: Path, prompts: Path, tmp_path: Path) -> None:
    for rule in ("biovil", "chexzero"):
        out = str(tmp_path / f"{rule}.csv")
        assert main(["classify", str(bundle), str(films), "--prompts", str(prompts), "--rule", rule, "--out", out]) == 0
    difference = read(tmp_path / "biovil.csv")[2] - read(tmp_path / "chexzero.csv")[2]
    assert np.abs(difference).max() > 1e-4


def test_a_built_in_set(bundle: Path, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert main(["classify", str(bundle), str(films / "a.jpg"), "--prompts", "chexpert", "--out", str(out)]) == 0
    header, ids, found = read(out)
    assert (len(header), header[1], header[14]) == (15, "Atelectasis", "Support Devices")
    assert ids == [str(films / "a.jpg")]
    assert found.shape == (1, 14)


def write_labels(films: Path, tmp_path: Path) -> Path:
    """Effusion known of 4 images, Opacity of 3 and only positive; a row too many, an image too few, two that share."""
    file = tmp_path / "labels.csv"
    file.write_text(
        "Path,Sex,effusion,Opacity\n"
        f"{films}/a.jpg,F,1,1\n"
        "films/e.png,M,0.0,-1\n"
        "d,M,0,1.0\n"
        "more/b.png,F,1,1\n"
        "more/f.png,F,-1,\n"
        "nowhere.png,F,1,0\n"
        "c,F,0,1\n",
        encoding="utf-8",
    )
    return file


def test_labels_give_auroc_and_accuracy_and_what_does_not_match_is_counted(
    bundle: Path, films: Path, prompts: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.archive.chunks._CHUNK", 2)  # so that rows of several chunks are put together
    three = PROMPTS | {"Edema": {"positive": ["edema"], "negative": ["no edema"]}}
    prompts.write_text(json.dumps(three))
    labels, out = write_labels(films, tmp_path), tmp_path / "out.csv"
    (films / "bad.png").write_bytes(b"nothing")
    arguments = [str(bundle), str(films), "--prompts", str(prompts), "--out", str(out), "--skip-bad"]
    arguments += ["--labels", str(labels), "--label-id-column", "Path"]
    assert main(["classify", *arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    _, ids, found = read(out)
    by_name = dict(zip([Path(name).relative_to(films).as_posix() for name in ids], found, strict=True))
    assert (report["images"], report["skipped"], report["rule"]) == (7, 1, "biovil")
    effusion, opacity = report["evaluation"]["labels"]
    scores = [by_name[name][0] for name in ("a.jpg", "e.png", "d.png", "more/b.png")]
    assert effusion == {
        "label": "Effusion",
        "images": 4,
        "positives": 2,
        "uncertain": 1,
        "blank": 0,
        "auroc": pytest.approx(roc_auc_score([1, 0, 0, 1], scores)),
        "accuracy": accuracy_score([1, 0, 0, 1], np.array(scores) > 0.5),
    }
    scores = [by_name[name][1] for name in ("a.jpg", "d.png", "more/b.png")]
    assert opacity == {
        "label": "Opacity",
        "images": 3,
        "positives": 3,
        "uncertain": 1,
        "blank": 1,
        "auroc": None,
        "accuracy": accuracy_score([1, 1, 1], np.array(scores) > 0.5),
    }
    assert report["evaluation"]["mean_auroc"] == effusion["auroc"]
    assert report["labels_without_column"] == ["Edema"]
    assert report["columns_without_label"] == ["Sex"]
    assert report["images_without_row"] == {"count": 1, "first": [str(films / "bad.png")]}
    assert report["rows_without_image"] == {"count": 1, "first": ["nowhere.png"]}
    shared = {"count": 2, "first": [str(films / "c.png"), str(films / "more/c.png")]}
    assert report["images_that_share_a_row"] == shared

    assert main(["classify", *arguments]) == 0
    printed = capsys.readouterr().out
    assert f"{effusion['auroc']:.3f}" in next(line for line in printed.splitlines() if line.startswith("Effusion"))
    assert "–" in next(line for line in printed.splitlines() if line.startswith("Opacity"))
    for line in (
        "no AUROC, which needs images with and without, so that means leave it out: Opacity",
        "no column of truth: Edema",
        "left out of their label's figures: 2 uncertain values, 1 blank",
        f"1 image without a row of labels: '{films / 'bad.png'}'",
        f"2 images left out, since a row could mean several of them: '{films / 'c.png'}', ",
        "1 row of labels without an image: 'nowhere.png'",
    ):
        assert line in printed


def test_a_table_of_images_with_ids(bundle: Path, films: Path, prompts: Path, tmp_path: Path, capsys) -> None:
    """Two images of one study have the study's labels; ids that were given are not taken for paths."""
    table, labels, out = tmp_path / "films.csv", tmp_path / "labels.csv", tmp_path / "out.csv"
    table.write_text("study,file\ns1,films/a.jpg\ns1,films/e.png\ns2,films/d.png\nx,films/more/f.png\n")
    labels.write_text("id,Effusion\ns1,1\ns2,0\nf,0\n")
    arguments = [str(table), "--image-column", "file", "--id-column", "study", "--prompts", str(prompts)]
    assert main(["classify", str(bundle), *arguments, "--out", str(out), "--labels", str(labels), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert read(out)[1] == ["s1", "s1", "s2", "x"]
    (effusion,) = report["evaluation"]["labels"]
    assert (effusion["images"], effusion["positives"]) == (3, 2)
    assert report["images_without_row"] == {"count": 1, "first": ["x"]}
    assert report["rows_without_image"] == {"count": 1, "first": ["f"]}


def test_bad_images_stop_the_run_and_are_all_named(
    bundle: Path, films: Path, prompts: Path, tmp_path: Path, capsys
) -> None:
    for name in ("bad.png", "worse.png"):
        (films / name).write_bytes(b"nothing")
    out, rejects = tmp_path / "out.csv", tmp_path / "rejects.jsonl"
    out.write_text("of yesterday")
    arguments = ["classify", str(bundle), str(films), "--prompts", str(prompts), "--out", str(out), "--force"]
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert "2 of 9 images cannot be used" in message
    assert str(films / "worse.png") in message
    assert "Nothing was written. Leave these out with --skip-bad." in message
    assert out.read_text() == "of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films", "out.csv", "prompts.json"]

    assert main([*arguments, "--skip-bad"]) == 0
    assert str(films / "worse.png") in capsys.readouterr().err
    assert len(read(out)[1]) == 7
    out.unlink()
    assert main([*arguments, "--rejects", str(rejects)]) == 0
    assert [json.loads(line)["id"] for line in rejects.read_text().splitlines()] == [
        str(films / "bad.png"),
        str(films / "worse.png"),
    ]
    assert len(read(out)[1]) == 7
    out.unlink()
    only = ["classify", str(bundle), str(films / "bad.png"), "--prompts", str(prompts), "--out", str(out)]
    assert main([*only, "--skip-bad"]) == 1
    assert "no image can be used" in capsys.readouterr().err
    assert not out.exists()


def test_an_interrupted_run_leaves_the_old_file(
    bundle: Path, films: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.archive.chunks._CHUNK", 2)
    embed, calls = runtime.archive.chunks.embed_items, []

    def interrupted(*arguments: object):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(*arguments)

    monkeypatch.setattr("runtime.archive.chunks.embed_items", interrupted)
    out = tmp_path / "out.csv"
    out.write_text("of yesterday")
    assert main(["classify", str(bundle), str(films), "--prompts", str(prompts), "--out", str(out), "--force"]) == 130
    assert out.read_text() == "of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films", "out.csv", "prompts.json"]


def test_mistakes_are_found_before_anything_is_loaded(films: Path, prompts: Path, tmp_path: Path, capsys) -> None:
    """There is no bundle: it would be the next error."""
    out = str(tmp_path / "out.csv")

    def refused(*arguments: str, inputs: str = str(films), to: str = out, asked: str = str(prompts)) -> str:
        given = ["classify", "/nowhere", *([inputs] if inputs else []), "--prompts", asked, "--out", to, *arguments]
        assert main(given) == 1
        return capsys.readouterr().err

    assert "BundleError" in refused(), "all is well but the bundle"
    labels = tmp_path / "labels.csv"
    labels.write_text("id,Effusion\na,1\nx,maybe\n")
    assert "row 2: column 'Effusion' holds 'maybe'" in refused("--labels", str(labels))
    assert "no column 'Path' of ids; it has: id, Effusion" in refused(
        "--labels", str(labels), "--label-id-column", "Path"
    )
    labels.write_text("id,Effusion\nx,1\n")
    message = refused("--labels", str(labels))
    assert f"No row of {labels} belongs to an image: its column 'id' has 'x', the images are '{films}" in message
    assert "labels.csv would overwrite an input" in refused("--labels", str(labels), to=str(labels))
    assert "'.txt'; .csv is expected" in refused(to="out.txt")
    assert "does not exist" in refused(to=str(tmp_path / "absent" / "out.csv"))
    assert "'.txt'; .jsonl is expected" in refused("--rejects", "r.txt")
    assert "no prompt set 'rsna'; there are: pneumonia, chexpert, biomedclip-rsna" in (said := refused(asked="rsna"))
    assert "biomedclip-tcga-til. Or give a .json file" in said
    assert "absent.json cannot be read" in refused(asked=str(tmp_path / "absent.json"))
    assert f"{labels} holds texts, but images are classified" in refused(inputs=str(labels))
    assert "- holds texts" in refused(inputs="-")
    assert "--id-column is a column of tables" in refused("--id-column", "x")
    assert "no column 'file'; it has: id, Effusion" in refused("--image-column", "file", inputs=str(labels))
    assert "nothing to classify" in refused(inputs="")
    prompts.write_text(json.dumps({"id": PROMPTS["Effusion"]}))
    assert "A label is called 'id'" in refused()
    prompts.write_text(json.dumps({"Effusion": {"positive": ["effusion"]}}))
    assert "label 'Effusion': has no negative prompts" in refused()
    assert not Path(out).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_file_names_that_are_not_unicode(bundle: Path, films: Path, prompts: Path, tmp_path: Path) -> None:
    (films / "e.png").rename(films / os.fsdecode(b"caf\xe9.png"))
    out = tmp_path / "out.csv"
    assert main(["classify", str(bundle), str(films), "--prompts", str(prompts), "--out", str(out)]) == 0
    assert f"{films}/caf\\udce9.png" in read(out)[1]
