"""Progression by prompts: the softmax over classes, previous images that are missing, systems of single images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.__main__ import main
from runtime.bundle import PAIR
from runtime.errors import BundleError, InputError
from runtime.tasks.progression import CHANGES, change_prompts, progression
from runtime.tasks.zero_shot import ZeroShotClassifier
from tests.conftest import edit_json
from tests.runtime.handmade import artifact, fp32, write_bundle

CLASSES = {"up": ["no edema", "clear lungs"], "same": ["edema"], "down": ["small left edema"]}


class Pairs:
    """Stands for the image encoder of a system that compares: a direction for each pair, the order counting."""

    def encode(self, images: list[Any], previous: list[Any]) -> np.ndarray:
        rows = np.stack(
            [np.concatenate([now, 2 * before]) for now, before in zip(images, previous, strict=True)]
        ).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def classifier() -> ZeroShotClassifier:
    embeds = np.random.default_rng(0).normal(size=(3, 1, 8)).astype(np.float32)
    embeds /= np.linalg.norm(embeds, axis=-1, keepdims=True)
    return ZeroShotClassifier(tuple(CHANGES), "biovil", embeds, "softmax", logit_scale=5.0)


@pytest.fixture
def vectors() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(1)
    return [*rng.normal(size=(4, 4))], [*rng.normal(size=(4, 4))]


def test_probabilities_are_the_softmax_over_the_classes(
    classifier: ZeroShotClassifier, vectors: tuple[list[np.ndarray], list[np.ndarray]]
) -> None:
    current, previous = vectors
    found = progression(classifier, Pairs(), current, previous)  # type: ignore[arg-type]
    images = torch.nn.functional.normalize(torch.tensor(np.concatenate([current, 2 * np.array(previous)], 1)), dim=1)
    expected = (5 * images.float() @ torch.tensor(classifier.prompt_embeds[:, 0]).T).softmax(-1)
    assert [list(each) for each in found] == [["improving", "stable", "worsening"]] * 4
    assert np.array([list(each.values()) for each in found]) == pytest.approx(expected.numpy(), abs=1e-6)
    swapped = progression(classifier, Pairs(), previous, current)  # type: ignore[arg-type]
    assert np.abs(expected.numpy() - [list(each.values()) for each in swapped]).max() > 0.1, (
        "which one is previous counts"
    )


def test_findings_become_sentences() -> None:
    assert change_prompts(" pleural effusion ") == {
        "improving": ["pleural effusion is improving"],
        "stable": ["pleural effusion is stable"],
        "worsening": ["pleural effusion is worsening"],
    }
    assert change_prompts(CLASSES) is CLASSES
    for finding in ("  ", 3, ["edema"], None):
        with pytest.raises(InputError, match=r"The finding is .*; a phrase such as 'pleural effusion', or \{class"):
            change_prompts(finding)  # type: ignore[arg-type]


def test_missing_previous_images_are_named(
    classifier: ZeroShotClassifier, vectors: tuple[list[np.ndarray], list[np.ndarray]]
) -> None:
    current, previous = vectors
    with pytest.raises(InputError, match="There is no previous image, and progression compares with one"):
        progression(classifier, Pairs(), current, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="4 current and 3 previous images came; one previous image for each"):
        progression(classifier, Pairs(), current, previous[:3])  # type: ignore[arg-type]
    holes: list[Any] = [previous[0], None, previous[2], float("nan")]
    with pytest.raises(InputError, match="2 of 4 images cannot be used") as raised:
        progression(classifier, Pairs(), current, holes)  # type: ignore[arg-type]
    assert [fault.index for fault in raised.value.faults] == [1, 3]


def test_systems_of_single_images_are_refused(tmp_path: Path, capsys) -> None:
    bundle = write_bundle(tmp_path / "bundle", [fp32()], [fp32()])
    engine = runtime.load(bundle, provider="cpu")
    films = [chest_phantom(120, 110, seed) for seed in range(2)]
    with pytest.raises(BundleError, match=r"embeds single images, and progression compares .* such as biovil-t"):
        engine.progression(*films, "edema")
    assert main(["progression", str(bundle), "now.png", "before.png", "edema"]) == 1
    assert "embeds single images" in capsys.readouterr().err


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that compares; its graph of pairs embeds the difference of the images."""
    pair = artifact("fp32", name="pair_fp32", role=PAIR)
    folder = write_bundle(tmp_path_factory.mktemp("pairs") / "bundle", [fp32()], [fp32(), pair])
    edit_json(folder / "manifest.json", lambda data: data["joint"].update(logit_scale=20.0))
    return folder


def test_an_engine_that_compares(bundle: Path) -> None:
    engine = runtime.load(bundle, provider="cpu")
    films = [chest_phantom(120, 110, seed) for seed in range(4)]
    current, previous = films[:2], films[2:]
    found = engine.progression(current, previous, CLASSES)
    images = torch.tensor(engine.image.encode(current, previous=previous))
    texts = [torch.tensor(engine.text.encode(prompts, normalize=False)).mean(0) for prompts in CLASSES.values()]
    expected = (20 * images @ torch.nn.functional.normalize(torch.stack(texts), dim=1).T).softmax(-1).numpy()
    assert [list(each) for each in found] == [["up", "same", "down"]] * 2
    assert np.array([list(each.values()) for each in found]) == pytest.approx(expected, abs=1e-5)
    assert engine.progression(current[0], previous[0], CLASSES) == pytest.approx(found[0], abs=1e-5)
    backwards = engine.progression(previous, current, CLASSES)
    assert np.abs(expected - [list(each.values()) for each in backwards]).max() > 0.05
    other_rule = engine.progression(current, previous, CLASSES, "clip")
    assert other_rule[0] != found[0], "two prompts are averaged by the rule"


def test_the_command_prints_what_the_engine_says(bundle: Path, tmp_path: Path, capsys) -> None:
    files = [tmp_path / f"{name}.png" for name in ("now", "before")]
    for seed, file in enumerate(files):
        Image.fromarray(chest_phantom(120, 110, seed)).save(file)
    engine = runtime.load(bundle, provider="cpu")
    command = ["progression", str(bundle), *map(str, files), "--provider", "cpu"]
    assert main([*command, "edema", "left opacity", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["current"], report["previous"]) == (str(files[0]), str(files[1]))
    for finding in ("edema", "left opacity"):
        expected = engine.progression(files[0], files[1], finding)
        assert report["progression"][finding] == pytest.approx(expected, abs=1e-6)
    assert main([*command, "edema"]) == 0
    improving = engine.progression(files[0], files[1], "edema")["improving"]
    assert capsys.readouterr().out.startswith(f"edema  improving {improving:.3f}   stable ")
    (tmp_path / "own.json").write_text(json.dumps(CLASSES))
    assert main([*command, "--prompts", str(tmp_path / "own.json"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["progression"].values()
    assert found == pytest.approx(engine.progression(files[0], files[1], CLASSES), abs=1e-6)
    for options in ([], ["edema", "--prompts", str(tmp_path / "own.json")]):
        assert main([*command, *options]) == 1
        assert "Give findings, such as 'pleural effusion', or --prompts, one of the two" in capsys.readouterr().err
