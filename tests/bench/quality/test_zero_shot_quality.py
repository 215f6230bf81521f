"""`bench quality zero-shot`: folders and CSV files, figures against scikit-learn, intervals by another bootstrap."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score, roc_auc_score

import runtime
from bench.__main__ import main
from bench.quality.zero_shot.figures import Figure, figures_of, is_exclusive
from export.samples import chest_phantom
from tests.conftest import System
from tests.runtime.handmade import write_clip

LABELS = ["clear lungs", "left opacity", "small effusion"]
OPTIONS = ("--provider", "cpu", "--precision", "fp32")


def made_up(count: int, labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and probabilities that follow them a little, with ties."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(labels, count, p=np.arange(1, labels + 1) / sum(range(labels + 1)))
    scores = rng.random((count, labels)) + 0.5 * np.eye(labels)[classes]
    return classes, np.round(scores / scores.sum(axis=1, keepdims=True), 2).astype(np.float32)


def interval(figure: Figure, drawn: list[float]) -> None:
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    assert (figure.low, figure.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert figure.low <= figure.value <= figure.high
    assert figure.high - figure.low > 0.02, "else an interval of no width would pass"


def test_figures_of_exclusive_labels_are_those_of_scikit_learn() -> None:
    classes, scores = made_up(60, 3, 0)
    truth = np.eye(3, dtype=np.int8)[classes]
    found = figures_of(LABELS, truth, scores, draws=200, seed=7)
    assert found.exclusive
    draws = np.random.default_rng(7).integers(0, 60, (200, 60))
    chosen = scores.argmax(axis=1)
    overall = found.overall
    assert overall["accuracy"].value == pytest.approx(accuracy_score(classes, chosen))
    assert overall["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(classes, chosen))
    interval(overall["accuracy"], [accuracy_score(classes[at], chosen[at]) for at in draws])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that a draw lacks, but that is predicted
        interval(overall["balanced_accuracy"], [balanced_accuracy_score(classes[at], chosen[at]) for at in draws])
    aurocs = []
    for column, label in enumerate(LABELS):
        mine = found.labels[label]
        assert mine["auroc"].value == pytest.approx(roc_auc_score(truth[:, column], scores[:, column]))
        assert mine["recall"].value == pytest.approx(recall_score(classes == column, chosen == column))
        aurocs.append([roc_auc_score(truth[at, column], scores[at, column]) for at in draws])
        interval(mine["auroc"], aurocs[-1])
    assert overall["mean_auroc"].value == pytest.approx(roc_auc_score(truth, scores, average="macro"))
    interval(overall["mean_auroc"], list(np.mean(aurocs, axis=0)))


def test_figures_of_labels_apart_leave_out_what_is_not_known() -> None:
    rng = np.random.default_rng(3)
    truth = rng.choice([1, 0, -1, -2], (80, 2), p=[0.3, 0.4, 0.2, 0.1]).astype(np.int8)
    scores = np.clip(rng.normal(0.45 + 0.2 * (truth == 1), 0.15), 0, 1).astype(np.float32)
    found = figures_of(["a", "b"], truth, scores, draws=100, seed=1)
    assert not found.exclusive
    draws = np.random.default_rng(1).integers(0, 80, (100, 80))
    for column, label in enumerate("ab"):
        known = truth[:, column] >= 0
        expected, told = truth[known, column], scores[known, column] > 0.5
        mine = found.labels[label]
        assert mine["accuracy"].value == pytest.approx(accuracy_score(expected, told))
        assert mine["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(expected, told))
        assert mine["auroc"].value == pytest.approx(roc_auc_score(expected, scores[known, column]))
        of_draws = [at[known[at]] for at in draws]
        interval(mine["accuracy"], [accuracy_score(truth[at, column], scores[at, column] > 0.5) for at in of_draws])
        interval(mine["auroc"], [roc_auc_score(truth[at, column], scores[at, column]) for at in of_draws])
    means = [found.labels[label]["accuracy"].value for label in "ab"]
    assert found.overall["accuracy"].value == pytest.approx(np.mean(means))


def test_figures_that_are_not_defined() -> None:
    truth = np.array([[1, -2], [1, -2], [1, -1]], np.int8)
    assert not is_exclusive(truth)
    found = figures_of(["all", "none"], truth, np.full((3, 2), 0.6, np.float32), draws=20)
    assert found.labels["all"]["auroc"] == Figure(None, None, None)
    assert found.labels["all"]["accuracy"] == Figure(1, 1, 1)
    assert found.labels["none"]["accuracy"] == Figure(None, None, None)
    assert found.overall["mean_auroc"] == Figure(None, None, None)
    assert is_exclusive(np.array([[1, 0], [0, 1]], np.int8))
    assert not is_exclusive(np.array([[1, 0], [0, 0]], np.int8))
    assert not is_exclusive(np.array([[1], [1]], np.int8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels with 3, 4 and 5 images."""
    data = tmp_path_factory.mktemp("labelled")
    for number, label in enumerate(LABELS):
        place = data / label.replace(" ", "_")
        place.mkdir()
        for image in range(3 + number):
            Image.fromarray(chest_phantom(130, 140, 10 * number + image)).save(place / f"{image}.png")
    return data


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "bundle", "small {}")


def quality(*arguments: object) -> int:
    return main(["quality", "zero-shot", *map(str, arguments), *OPTIONS])


def measured(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert quality(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_of_labels(clip: Path, folder: Path, capsys) -> None:
    report = measured(capsys, clip, "--data", folder, "--draws", 50)
    engine = runtime.load(clip, provider="cpu", precision="fp32")
    paths = sorted(folder.rglob("*.png"))
    classes = [LABELS.index(path.parent.name.replace("_", " ")) for path in paths]
    rows = np.array([list(each.values()) for each in engine.classify(paths, LABELS)])
    (found,) = report["results"].values()
    assert (report["images"], report["exclusive"], report["score"], report["rule"]) == (12, True, "softmax", "clip")
    assert report["prompts"]["left opacity"]["positive"] == ["small left opacity"], "the bundle's template"
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(classes, rows.argmax(axis=1)))
    for column, label in enumerate(LABELS):
        auroc = roc_auc_score(np.array(classes) == column, rows[:, column])
        assert found["labels"][label]["auroc"]["value"] == pytest.approx(auroc)
        assert report["labels"][label]["positives"] == 3 + column
    assert quality(clip, "--data", folder, "--draws", 50) == 0
    printed = capsys.readouterr().out
    assert "labelled" in printed.splitlines()[0]
    assert f"accuracy {found['accuracy']['value']:.3f} ({found['accuracy']['low']:.3f}–" in printed


def test_pytorch_beside_the_engine_with_pairs_and_several_prompts(
    tiny: System, folder: Path, tmp_path: Path, capsys
) -> None:
    prompts = {label: {"positive": [label, f"small {label}"], "negative": [f"no {label}"]} for label in LABELS}
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    given = ("--data", folder, "--prompts", tmp_path / "prompts.json", "--draws", 20)
    report = measured(capsys, tiny.bundle, *given, "--checkpoint", tiny.checkpoint)
    assert (report["score"], report["rule"]) == ("pairs", "biovil")
    ours, theirs = report["results"].values()
    assert ours == theirs
    assert report["largest_difference"] <= 1e-5
    with_templates = measured(capsys, tiny.bundle, "--data", folder, "--templates", "chexzero", "--draws", 20)
    assert with_templates["prompts"]["clear lungs"] == {"positive": ["clear lungs"], "negative": ["no clear lungs"]}


def test_a_table_of_labels(clip: Path, folder: Path, tmp_path: Path, capsys) -> None:
    rows = [
        f"{path.relative_to(folder).as_posix()},{int(number % 2 == 0)},{'' if number == 3 else int(number > 4)},F"
        for number, path in enumerate(sorted(folder.rglob("*.png"))[:10])
    ]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["Path,Edema,Opacity,Sex", *rows, "gone.png,1,1,F"]))
    labels = ("--class", "Edema", "--class", "Opacity", "--label-id-column", "Path")
    report = measured(capsys, clip, "--data", table, "--images", folder, *labels, "--draws", 20)
    assert (report["images"], report["exclusive"]) == (10, False)
    assert report["labels"]["Opacity"] == {"images": 9, "positives": 5, "uncertain": 0, "blank": 1}
    engine = runtime.load(clip, provider="cpu", precision="fp32")
    paths = sorted(folder.rglob("*.png"))[:10]
    found = [each["Edema"] for each in engine.classify(paths, ["Edema", "Opacity"])]
    expected = roc_auc_score([number % 2 == 0 for number in range(10)], found)
    (mine,) = report["results"].values()
    assert mine["labels"]["Edema"]["auroc"]["value"] == pytest.approx(expected)


def test_mistakes_say_what_to_give(clip: Path, tiny: System, folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    for name in ("a", "b"):
        (tmp_path / "bad" / name).mkdir()
        (tmp_path / "bad" / name / "film.png").write_bytes((folder / "clear_lungs" / "0.png").read_bytes()[:400])
    Image.fromarray(chest_phantom(130, 140, 1)).save(tmp_path / "bad" / "b" / "good.png")
    for arguments, message in (
        ((clip, "--data", tmp_path / "empty"), "has no sub-folders; one for each label"),
        ((clip, "--data", tmp_path / "gone"), "neither a folder with a sub-folder for each label nor a .csv file"),
        ((clip, "--data", folder, "--class", "edema", "--class", "clear lungs"), "No label is called as these folders"),
        ((clip, "--data", folder, "--images", folder), "--images goes with a .csv file"),
        ((tiny.bundle, "--data", folder), "For labels alone choose templates that do both"),
        ((clip, "--data", tmp_path / "bad"), "Mend them, or leave them out with --skip-bad"),
    ):
        assert quality(*arguments) == 1
        assert message in capsys.readouterr().err
    report = measured(capsys, clip, "--data", tmp_path / "bad", "--skip-bad", "--draws", 5)
    assert (report["images"], report["skipped"]) == (1, 2)
