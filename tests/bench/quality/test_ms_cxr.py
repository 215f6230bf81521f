"""`python -m bench quality ms-cxr` on small files of the published format, over phantoms."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from bench.__main__ import main
from bench.quality.ms_cxr import print_report
from bench.quality.ms_cxr_annotations import AnnotatedImage, Phrase
from bench.quality.ms_cxr_scores import average, average_classes, by_class, evaluate
from runtime.tasks.grounding import Box, score_grounding
from tests.bench.ms_cxr import ROWS, SIZE, write_coco, write_csv, write_films
from tests.conftest import System
from tests.runtime.handmade import fp32, write_bundle
from tests.runtime.sessions import watch_runs


@pytest.fixture
def films(tmp_path: Path) -> Path:
    return write_films(tmp_path / "films")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("ms-cxr") / "bundle", [fp32()], [fp32()])


def quality(bundle: Path, annotations: Path, films: Path, *options: str) -> int:
    given = ["--annotations", str(annotations), "--images", str(films), "--provider", "cpu"]
    return main(["quality", "ms-cxr", str(bundle), *given, *options])


# --- the figures ------------------------------------------------------------------------------------------------------

WHOLE = Box(0, 0, 1, 1)


def annotated(identity: str, *phrases: tuple[str, Box]) -> AnnotatedImage:
    made = tuple(Phrase(f"{identity} {index}", name, (box,)) for index, (name, box) in enumerate(phrases))
    return AnnotatedImage(identity, "", (40, 20), made)


def left_half(value: float, width: int = 40, height: int = 20) -> np.ndarray:
    """Noise around a value in the left half, the same around 0 in the right one; nothing seen above and below."""
    noise = np.where(np.indices((height, width)).sum(axis=0) % 2, 0.05, -0.05).astype(np.float32)
    noise[:, : width // 2] += value
    noise[0] = noise[-1] = np.nan
    return noise


def test_findings_count_the_same_in_the_mean_however_many_phrases_they_have() -> None:
    left, right, unseen = Box(0, 0, 0.5, 1), Box(0.5, 0, 0.5, 1), Box(0, 0, 1, 0.05)
    images = [
        annotated("a", ("Edema", left), ("Edema", left), ("Pneumonia", right)),
        annotated("b", ("Edema", left), ("Edema", unseen), ("Atelectasis", unseen)),
    ]
    maps = {"a": [left_half(0.2), left_half(0.4), left_half(0.2)], "b": [left_half(0.6), left_half(1), left_half(1)]}
    found = evaluate(images, {name: Path(name) for name in maps}, {"ours": lambda file, _: maps[file.name]})
    noise = 0.05 * math.sqrt(2)
    classes = {name: average(phrases, "ours") for name, phrases in by_class(found.phrases).items()}
    assert list(classes) == ["Atelectasis", "Edema", "Pneumonia"]
    assert [each.phrases for each in classes.values()] == [0, 3, 1]
    assert math.isnan(classes["Atelectasis"].cnr)
    assert classes["Edema"].cnr == pytest.approx(0.4 / noise, rel=1e-5)
    assert classes["Pneumonia"].cnr == pytest.approx(-0.2 / noise, rel=1e-5)
    assert classes["Pneumonia"].absolute_cnr == pytest.approx(0.2 / noise, rel=1e-5)
    assert classes["Edema"].pointing == 1
    # Above 0.1 all of the half; 0.2 leaves half of 0.2's pixels, 0.3 none; 0.4 half of 0.4's, 0.5 none, all of 0.6's.
    assert classes["Edema"].ious == pytest.approx((1, 2.5 / 3, 2 / 3, 1.5 / 3, 1 / 3))
    mean = average_classes(list(classes.values()))
    assert mean.phrases == 4
    assert mean.cnr == pytest.approx(0.1 / noise, rel=1e-5)
    assert mean.absolute_cnr == pytest.approx(0.3 / noise, rel=1e-5)
    assert mean.pointing == 0.5
    every = average(found.phrases, "ours")
    assert every.cnr == pytest.approx(0.25 / noise, rel=1e-5)
    assert every.absolute_cnr == pytest.approx(0.35 / noise, rel=1e-5)
    assert every.pointing == 0.75


def test_boxes_are_scaled_to_the_image_at_hand() -> None:
    image = annotated("a", ("Edema", Box(0.1, 0.2, 0.45, 0.5)))

    def score(width: int, height: int):
        maps = {"ours": lambda *_: [left_half(0.3, width, height)]}
        return evaluate([image], {"a": Path("a")}, maps)

    small, large = score(40, 20), score(400, 200)
    assert large.phrases[0].scores["ours"].cnr == pytest.approx(small.phrases[0].scores["ours"].cnr, rel=0.06)
    inside = np.zeros((20, 40), dtype=bool)
    inside[4:14, 4:22] = True
    values = left_half(0.3)
    a, b = values[inside], values[~inside & np.isfinite(values)]
    assert small.phrases[0].scores["ours"].cnr == pytest.approx((a.mean() - b.mean()) / math.hypot(a.std(), b.std()))
    assert small.misshapen == large.misshapen == []
    assert score(40, 21).misshapen == ["a: 40 × 21 pixels, 40 × 20 when it was annotated"]


def test_the_difference_of_two_systems_is_the_largest_of_all_pixels() -> None:
    image = annotated("a", ("Edema", Box(0, 0, 0.5, 1)), ("Edema", Box(0, 0, 0.5, 1)))
    other = left_half(0.3)
    other[5, 5] += 0.125
    maps = {"ours": lambda *_: [left_half(0.3)] * 2, "theirs": lambda *_: [left_half(0.3), other]}
    found = evaluate([image], {"a": Path("a")}, maps)
    assert found.differences == {"theirs": pytest.approx(0.125)}
    assert found.phrases[0].scores["ours"] == found.phrases[0].scores["theirs"]
    assert found.phrases[1].scores["ours"] != found.phrases[1].scores["theirs"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_report(bundle: Path, films: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    runs = watch_runs(monkeypatch, lambda session, inputs: tuple(inputs))
    assert quality(bundle, write_csv(tmp_path / "a.csv"), films, "--json") == 0
    assert runs.count(("pixel_values",)) == 2, "one run for each image, not for each phrase"
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    engine = runtime.load(bundle, provider="cpu")
    first, second = films / "files/p1/s1/aa-11.jpg", films / "elsewhere/bb-22.png"
    expected = [  # the first image has half the size
        score_grounding(engine.similarity_map(first, "left opacity"), [Box(20, 30, 25, 40), Box(75, 60, 15, 15)]),
        score_grounding(engine.similarity_map(first, "no, small edema"), [Box(50, 50, 45, 20)]),
        score_grounding(engine.similarity_map(first, "small opacity"), [Box(15, 15, 50, 50)]),
        score_grounding(engine.similarity_map(second, "left opacity"), [Box(30, 200, 120, 60)]),
    ]
    (name,) = report["results"]
    assert name == "this engine (cpu, fp32)"
    assert [each["dicom_id"] for each in report["each"]] == ["aa-11"] * 3 + ["bb-22"]
    assert [each[name]["cnr"] for each in report["each"]] == pytest.approx([each.cnr for each in expected], rel=1e-4)
    assert [each[name]["miou"] for each in report["each"]] == pytest.approx([each.miou for each in expected], abs=1e-4)
    results = report["results"][name]
    pneumonia = [expected[index].cnr for index in (0, 2, 3)]
    assert results["Pneumonia"]["cnr"] == pytest.approx(np.mean(pneumonia), rel=1e-4)
    assert results["Pneumonia"]["absolute_cnr"] == pytest.approx(np.mean(np.abs(pneumonia)), rel=1e-4)
    assert results["mean of the findings"]["cnr"] == pytest.approx((np.mean(pneumonia) + expected[1].cnr) / 2, rel=1e-4)
    assert results["all phrases"]["cnr"] == pytest.approx(np.mean([each.cnr for each in expected]), rel=1e-4)
    assert report["largest_difference_of_a_cosine"] == {}
    assert captured.err == ""


def test_the_table(bundle: Path, films: Path, tmp_path: Path, capsys) -> None:
    rows = [*ROWS, ("Edema", "clear lungs", "x", "bb-22", 0, 0, 3, 3, *SIZE)]
    assert quality(bundle, write_csv(tmp_path / "a.csv", rows), films) == 0
    title, unseen, system, header, edema, pneumonia, blank, mean, every = capsys.readouterr().out.splitlines()
    assert title == "a.csv: 5 phrases of 2 images"
    assert unseen == "phrases outside what the model sees, which count for nothing: 1"
    assert system.strip() == "this engine (cpu, fp32)"
    assert header.split() == ["phrases", "CNR", "|CNR|", "mIoU", "pointing"]
    assert edema.split()[:2] == ["Edema", "1"]
    assert pneumonia.split()[:2] == ["Pneumonia", "3"]
    assert blank == ""
    assert mean.startswith("mean of the findings        4")
    assert every.startswith("all phrases                 4")
    assert len({len(line) for line in (header, edema, pneumonia, mean, every)}) == 1


def test_missing_and_broken_images_are_listed_and_counted(bundle: Path, films: Path, tmp_path: Path, capsys) -> None:
    rows = [*ROWS, *((*ROWS[0][:2], f"files/{name}.jpg", name, *ROWS[0][4:]) for name in ("cc-33", "dd-44", "ee-55"))]
    file = write_csv(tmp_path / "a.csv", rows)
    Image.fromarray(np.zeros((300, 240), dtype=np.uint8)).save(films / "ee-55.png")
    assert quality(bundle, file, films, "--json") == 0
    captured = capsys.readouterr()
    assert "images not found (2): files/cc-33.jpg, files/dd-44.jpg" in captured.err
    assert "images that cannot be used (1): ee-55: is constant" in captured.err
    report = json.loads(captured.out)
    assert report["images_not_found"] == ["files/cc-33.jpg", "files/dd-44.jpg"]
    assert (report["images"], report["phrases"]) == (2, 4)
    assert quality(bundle, file, films, "--json", "--limit", "1") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 1


def test_nothing_that_could_be_measured(bundle: Path, films: Path, tmp_path: Path, capsys) -> None:
    file = write_csv(tmp_path / "a.csv")
    (tmp_path / "empty").mkdir()
    assert quality(bundle, file, tmp_path / "empty") == 1
    assert f"None of the 2 images of {file} is in {tmp_path / 'empty'}" in capsys.readouterr().err
    constant = tmp_path / "constant"
    constant.mkdir()
    Image.fromarray(np.zeros((300, 240), dtype=np.uint8)).save(constant / "aa-11.png")
    assert quality(bundle, file, constant) == 1
    assert "None of the images can be used: aa-11: is constant" in capsys.readouterr().err
    bad = write_csv(tmp_path / "b.csv", [(ROWS[0][0], "[CLS] opacity", *ROWS[0][2:])])
    assert quality(bundle, bad, films) == 1
    assert "special token [CLS]" in capsys.readouterr().err


def test_pytorch_on_the_same_inputs(tiny: System, films: Path, tmp_path: Path, capsys) -> None:
    file = write_coco(tmp_path / "a.json")
    given = ["--checkpoint", str(tiny.checkpoint), "--precision", "fp32"]
    assert quality(tiny.bundle, file, films, *given, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    ours, torch = report["results"]
    assert torch == "PyTorch fp32"
    assert report["largest_difference_of_a_cosine"][torch] <= 1e-5
    for name, found in report["results"][ours].items():
        assert found["cnr"] == pytest.approx(report["results"][torch][name]["cnr"], abs=1e-3), name
    print_report(report)
    printed = capsys.readouterr().out.splitlines()
    assert "largest difference of a pixel's cosine to PyTorch fp32: " in printed[-1]
    assert printed[2].split().count("|CNR|") == 2


def test_a_checkpoint_of_other_weights_is_refused(
    bundle: Path, tiny: System, films: Path, tmp_path: Path, capsys
) -> None:
    other = ["--checkpoint", str(tiny.checkpoint)]
    assert quality(bundle, write_csv(tmp_path / "a.csv"), films, *other) == 1
    assert "does not hold the weights that the bundle was made of (pytorch_model.bin)" in capsys.readouterr().err
