"""An export replaces no input of its own, and the demo no file of someone else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from export import demo
from export.__main__ import main
from export.samples import chest_phantom
from tests.conftest import System
from tests.runtime.trees import contents


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(list(map(str, arguments))) == 1
    return capsys.readouterr().err


def test_a_bundle_that_holds_an_input_is_not_replaced(tiny: System, tiny_copy: Path, tmp_path: Path, capsys) -> None:
    (tiny_copy / "texts.txt").write_text("No effusion.\n")
    (tiny_copy / "films").mkdir()
    Image.fromarray(chest_phantom(100, 90, 0)).save(tiny_copy / "films" / "a.png")
    (tmp_path / "linked").mkdir()
    os.link(tiny_copy / "films" / "a.png", tmp_path / "linked" / "b.png")
    (tmp_path / "link.txt").symlink_to(tiny_copy / "texts.txt")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").symlink_to(tiny_copy / "text" / "config.json")
    (tiny_copy / "labels.csv").write_text("id,Pneumonia\na,1\n")
    (tiny_copy / "prompts.json").write_text("{}")
    (tmp_path / "labels.csv").write_text("id,Pneumonia\na,1\n")
    before = contents(tmp_path)
    options = ("--checkpoint", tiny.checkpoint, "--precision", "fp32,int8", "--out", tiny_copy, "--force")
    for given in (
        ("--calibration-text", tiny_copy / "texts.txt"),
        ("--calibration-text", tmp_path / "link.txt"),
        ("--calibration-images", tiny_copy / "films"),
        ("--calibration-images", tmp_path / "linked"),
        ("--calibration-images", tiny_copy),
        ("--checkpoint", tmp_path / "checkpoint"),
        ("--checkpoint", tiny_copy),
    ):
        assert "would overwrite an input" in refused(capsys, "biovil", *options, *given)
        assert contents(tmp_path) == before
    apart = {"images": tmp_path / "linked", "labels": tmp_path / "labels.csv", "prompts": "pneumonia"}
    (tmp_path / "linked" / "b.png").unlink()
    before = contents(tmp_path)
    for given in (
        {"images": tiny_copy / "films"},
        {"labels": tiny_copy / "labels.csv"},
        {"prompts": tiny_copy / "prompts.json"},
    ):
        labelled = [each for name, value in (apart | given).items() for each in (f"--zero-shot-{name}", value)]
        assert "would overwrite an input" in refused(capsys, "biovil", *options, *labelled)
        assert contents(tmp_path) == before


@pytest.fixture
def run_demo(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the demo up to its first command, which ends with exit status 7."""
    monkeypatch.setattr(demo.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 7))
    monkeypatch.setattr(demo, "_write_checkpoint", lambda folder: folder)
    return lambda *arguments: demo.main(list(map(str, arguments)))


@pytest.mark.parametrize("name", ["radiograph.png", "texts.npy", "texts.ids.txt", "images.npy", "grounding.png"])
def test_the_demo_asks_before_its_work(name: str, tmp_path: Path, run_demo, capsys) -> None:
    (tmp_path / name).write_bytes(b"precious")
    assert run_demo("--out", tmp_path) == 1
    message = capsys.readouterr().err
    assert f"{name} is there already, and this program did not write it" in message
    assert "--force" in message
    assert contents(tmp_path) == {name: b"precious"}
    assert run_demo("--out", tmp_path, "--force") == 7
    with Image.open(tmp_path / "radiograph.png") as image:
        assert image.size == (960, 1100)
    if name == "radiograph.png":
        assert run_demo("--out", tmp_path) == 7, "its own picture is replaced without asking"


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_the_radiograph_of_a_demo_is_never_its_picture(link, tmp_path: Path, run_demo, capsys) -> None:
    image = tmp_path / "mine.png"
    Image.fromarray(chest_phantom(100, 90, 0)).save(image)
    (tmp_path / "demo").mkdir()
    link(image, tmp_path / "demo" / "grounding.png")
    before = contents(tmp_path)
    for given in (image, tmp_path / "demo" / "grounding.png"):
        assert run_demo("--image", given, "--out", tmp_path / "demo", "--force") == 1
        assert "would overwrite an input" in capsys.readouterr().err
        assert contents(tmp_path) == before


def test_a_checkpoint_of_someone_else_is_no_place_for_the_demos(tmp_path: Path, run_demo, capsys) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "notes.md").write_text("mine")
    assert run_demo("--out", tmp_path, "--force") == 1
    assert "checkpoint is there already" in capsys.readouterr().err
    assert contents(tmp_path) == {"checkpoint/notes.md": b"mine"}
