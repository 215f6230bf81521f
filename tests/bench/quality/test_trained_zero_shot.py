"""`bench quality zero-shot` on a CLIP with trained weights: what it finds means something; wrong labels give chance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.__main__ import main
from export.build import export_bundle
from export.families import FAMILIES
from tests.trained.cases import held_out_cases
from tests.trained.figures import CHANCE
from tests.trained.models import clip
from tests.trained.test_clip import BOUNDS
from tests.trained.wordings import finding_prompts

pytestmark = pytest.mark.slow

_COUNT = 160


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The checkpoint, and its bundle."""
    checkpoint, bundle = clip.checkpoint("plain"), tmp_path_factory.mktemp("trained") / "bundle"
    export_bundle(FAMILIES["clip"], str(checkpoint), bundle)
    return checkpoint, bundle


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Held-out radiographs by finding."""
    folder = tmp_path_factory.mktemp("films")
    for number, case in enumerate(held_out_cases(_COUNT)):
        place = folder / case.finding.replace(" ", "_")
        place.mkdir(exist_ok=True)
        Image.fromarray(case.image).save(place / f"{number}.png")
    return folder


def measured(capsys: pytest.CaptureFixture[str], bundle: Path, films: Path, prompts: Path, *options: str) -> dict:
    command = ["quality", "zero-shot", str(bundle), "--data", str(films), "--prompts", str(prompts), "--json"]
    assert main([*command, "--provider", "cpu", "--draws", "200", *options]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(finding_prompts()))
    return file


def test_findings_are_told_apart(trained: tuple[Path, Path], films: Path, prompts: Path, capsys) -> None:
    checkpoint, bundle = trained
    report = measured(capsys, bundle, films, prompts, "--checkpoint", str(checkpoint))
    assert report["largest_difference"] <= 1e-4, "probabilities, of cosines times a scale of up to 50"
    for found in report["results"].values():
        assert found["accuracy"]["low"] > CHANCE["finding"] + 0.2
        assert found["accuracy"]["value"] >= BOUNDS["finding"]
        assert found["mean_auroc"]["value"] >= 0.95


def test_wrong_labels_give_chance(
    trained: tuple[Path, Path], films: Path, prompts: Path, tmp_path: Path, capsys
) -> None:
    names = sorted(folder.name for folder in films.iterdir())
    rng = np.random.default_rng(0)
    for number, file in enumerate(sorted(films.rglob("*.png"))):
        place = tmp_path / "shuffled" / names[rng.integers(len(names))]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place / f"{number}.png")
    (found,) = measured(capsys, trained[1], tmp_path / "shuffled", prompts)["results"].values()
    assert abs(found["accuracy"]["value"] - CHANCE["finding"]) < 0.12
    assert abs(found["mean_auroc"]["value"] - 0.5) < 0.08
