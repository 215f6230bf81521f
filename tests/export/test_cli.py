"""`python -m export`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

import export.__main__ as cli
from tests.conftest import run_module, tiny_family


@pytest.fixture
def tiny_table(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("biovil", "cxr-bert-specialized", "biovil-image")
    monkeypatch.setattr(cli, "FAMILIES", {name: tiny_family(name) for name in names})


def test_list_shows_the_table() -> None:
    printed = run_module("export", "--list").stdout
    for part in ("biovil ", "text + image", "cxr-bert-specialized", "biovil-image", "CXR-BERT-specialized@v1.1"):
        assert part in printed


def test_list_does_not_need_torch(fresh_python) -> None:
    code = "import sys; sys.modules['torch'] = None; import export.__main__ as m; m.main(['--list'])"
    assert "biovil" in fresh_python(code)


def test_help_says_what_becomes_of_a_miss() -> None:
    printed = " ".join(run_module("export", "--help").stdout.split())
    for part in ("--on-miss {leave-out,fail}", "--search-minutes M", "3 the bundle is there, without the precisions"):
        assert part in printed


def test_defaults_are_those_of_python() -> None:
    from export.precision import Lowering

    options, default = cli._parser().parse_args(["biovil"]), Lowering()
    assert (options.on_miss, options.search_minutes) == (default.on_miss, default.search_minutes)
    assert (options.precision, options.tier) == (default.precisions, default.tier)


def test_wrong_usage() -> None:
    assert "--search-minutes: 0; a number above 0" in run_module("export", "--search-minutes", "0", expect=2).stderr
    assert "--on-miss: invalid choice" in run_module("export", "--on-miss", "shrug", expect=2).stderr
    assert "name a system" in run_module("export", expect=2).stderr
    assert "--checkpoint and --out" in run_module("export", "biovil", expect=2).stderr
    assert "invalid choice: 'biovil-x'" in run_module("export", "biovil-x", expect=2).stderr


@pytest.mark.parametrize("command", [("biovil", "--checkpoint", "c", "--out", "b"), ("verify", "b")])
def test_labelled_images_come_with_labels_and_prompts(command: tuple[str, ...], capfd) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([*command, "--zero-shot-images", "films", "--zero-shot-prompts", "chexpert"])
    assert "belong together: give --zero-shot-labels too, or none" in capfd.readouterr().err


def test_labelled_images_reach_the_export(monkeypatch: pytest.MonkeyPatch) -> None:
    from export import build
    from export.samples.zero_shot import ZeroShotSources

    given: list[build.CalibrationSources] = []

    def stop(*arguments: object, calibration: build.CalibrationSources, **options: object) -> None:
        given.append(calibration)
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "export_bundle", stop)
    command = ["biovil", "--checkpoint", "c", "--out", "b", "--precision", "fp32,int8"]
    labelled = ["--zero-shot-images", "films", "--zero-shot-labels", "l.csv", "--zero-shot-prompts", "p.json"]
    cli.main(command)
    cli.main([*command, *labelled])
    cli.main([*command, *labelled, "--label-id-column", "Path"])
    places = (Path("films"), Path("l.csv"), "p.json")
    assert [each.zero_shot for each in given] == [None, ZeroShotSources(*places), ZeroShotSources(*places, "Path")]


@pytest.mark.parametrize(
    ("family", "precision", "said"),
    [("biovil-image", "int8", "does not embed both"), ("biovil", "fp32", "fp32 changes no AUROC")],
)
def test_labelled_images_that_would_change_nothing_are_refused(family: str, precision: str, said: str, capfd) -> None:
    labelled = ("--zero-shot-images", "films", "--zero-shot-labels", "l.csv", "--zero-shot-prompts", "chexpert")
    with pytest.raises(SystemExit, match="2"):
        cli.main([family, "--checkpoint", "c", "--out", "b", "--precision", precision, *labelled])
    assert said in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_table")
def test_the_summary_names_artifacts_figures_and_the_bundle(tiny_checkpoint: Path, tmp_path: Path, capfd) -> None:
    out = tmp_path / "bundle"
    assert cli.main(["biovil", "--checkpoint", str(tiny_checkpoint), "--out", str(out)]) == 0
    printed, progress = capfd.readouterr()
    for part in (
        "text/onnx/model.onnx",
        "image/onnx/model.onnx",
        "text/onnx/model_packed.onnx",
        "text/onnx/fill_mask.onnx",
        "max_abs_score",
        "fp32",
        " MB",
        "max_abs",
        "≤ 1e-05",
    ):
        assert part in printed
    assert re.search(r"\d+ of \d+ kinds", printed)
    assert "RANDOM WEIGHTS" in printed
    assert f"Bundle: {out}" in printed.replace("\n", "")
    assert re.search(r"^\[9\] writing the manifest", progress, re.MULTILINE)
    assert "[torch.onnx]" not in printed + progress


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_table")
def test_json_is_all_there_is_on_standard_output(tiny_checkpoint: Path, tmp_path: Path, capfd) -> None:
    out = tmp_path / "bundle"
    arguments = ["biovil-image", "--checkpoint", str(tiny_checkpoint), "--out", str(out), "--json"]
    assert cli.main(arguments) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["bundle"] == str(out)
    assert report["seconds"] > 0
    assert report["text"] is None
    assert report["image"]["artifacts"][0]["parity"][0]["figures"]["max_abs"] <= 1e-5


@pytest.mark.usefixtures("tiny_table")
def test_errors_are_one_message_and_exit_status_1(tmp_path: Path, capfd) -> None:
    assert cli.main(["biovil", "--checkpoint", str(tmp_path), "--out", str(tmp_path / "b")]) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith("CheckpointError: ")
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torch", "transformers", "onnx", "rich"])
def test_a_missing_export_extra_is_named(package: str, tmp_path: Path) -> None:
    import subprocess

    code = f"import sys; sys.modules[{package!r}] = None; import export.__main__ as m; sys.exit(m.main(sys.argv[1:]))"
    arguments = ["biovil", "--checkpoint", "random", "--out", str(tmp_path / "b")]
    process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert "pip install 'cxr-engine[export]'" in process.stderr
    assert "Traceback" not in process.stderr
