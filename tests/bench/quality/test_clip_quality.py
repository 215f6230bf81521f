"""The evaluations of `bench quality` on a CLIP: by the manifest, and beside transformers' model of the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from bench.__main__ import main
from export.build import export_bundle
from export.families import FAMILIES
from tests.bench.ms_cxr import write_csv, write_films
from tests.export.families.clips import write_clip

pytestmark = pytest.mark.slow

LABELS = ["edema", "left effusion"]
OPTIONS = ("--provider", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small CLIP in transformers' layout, and its bundle."""
    folder = tmp_path_factory.mktemp("clip")
    checkpoint = write_clip(folder / "checkpoint")
    export_bundle(FAMILIES["clip"], str(checkpoint), folder / "bundle")
    return checkpoint, folder / "bundle"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("labelled")
    for label in LABELS:
        (folder / label.replace(" ", "_")).mkdir()
        for number in range(4):
            small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
            small.resize((90, 70)).save(folder / label.replace(" ", "_") / f"{number}.png")
    return folder


def measured(capsys: pytest.CaptureFixture[str], task: str, clip: tuple[Path, Path], *arguments: object) -> dict:
    checkpoint, bundle = clip
    command = ["quality", task, str(bundle), *map(str, arguments), *OPTIONS, "--checkpoint", str(checkpoint), "--json"]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["task"], report["family"]) == (task, "clip")
    assert len(report["results"]) == 2
    return report


def test_zero_shot_is_that_of_transformers(clip: tuple[Path, Path], data: Path, capsys) -> None:
    options = ("--data", data, "--templates", "imagenet-simple", "--draws", 10)
    report = measured(capsys, "zero-shot", clip, *options)
    assert report["largest_difference"] <= 1e-5
    model, tokenizer = CLIPModel.from_pretrained(clip[0]).eval(), CLIPTokenizer.from_pretrained(clip[0])
    paths = [*sorted((data / "edema").iterdir()), *sorted((data / "left_effusion").iterdir())]
    pixels = CLIPImageProcessorPil.from_pretrained(clip[0])([Image.open(path) for path in paths], return_tensors="pt")
    classes = []
    with torch.no_grad():
        for label in LABELS:
            tokens = tokenizer(report["prompts"][label]["positive"], padding=True, return_tensors="pt")
            whole = model(**tokens, **pixels)
            classes.append(torch.nn.functional.normalize(whole.text_embeds.mean(0), dim=0))
    logits = model.logit_scale.exp() * whole.image_embeds @ torch.stack(classes).T
    told = logits.argmax(dim=-1).tolist()
    right = [guess == number // 4 for number, guess in enumerate(told)]
    for found in report["results"].values():
        assert found["accuracy"]["value"] == pytest.approx(np.mean(right))
        assert found["labels"]["edema"]["recall"]["value"] == pytest.approx(np.mean(right[:4]))


def test_retrieval_and_grounding_beside_pytorch(clip: tuple[Path, Path], data: Path, tmp_path: Path, capsys) -> None:
    rows = [
        {"image": f"{label.replace(' ', '_')}/{at}.png", "text": f"{label} {at}"} for label in LABELS for at in range(4)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = measured(capsys, "retrieval", clip, "--pairs", tmp_path / "pairs.jsonl", "--images", data)
    assert report["largest_difference"] <= 1e-5
    ours, theirs = report["results"].values()
    assert ours == theirs
    annotations, films = write_csv(tmp_path / "annotations.csv"), write_films(tmp_path / "films")
    report = measured(capsys, "ms-cxr", clip, "--annotations", annotations, "--images", films)
    assert max(report["largest_difference_of_a_cosine"].values()) <= 1e-5
    report = measured(capsys, "triplets", clip)
    assert report["largest_difference"] <= 1e-5


def test_another_checkpoint_is_refused(clip: tuple[Path, Path], data: Path, tmp_path: Path, capsys) -> None:
    other = write_clip(tmp_path / "other", activation="gelu", safetensors=False)
    command = ["quality", "zero-shot", str(clip[1]), "--data", str(data), *OPTIONS, "--checkpoint", str(other)]
    assert main(command) == 1
    assert "does not hold the weights that the bundle was made of" in capsys.readouterr().err
