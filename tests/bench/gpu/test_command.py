"""The command: without a GPU it says so; the exit status is the goals'."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.gpu import check as check_module
from bench.gpu import command
from bench.gpu.cases import contestants, plans
from bench.gpu.check import Check, check_gpu
from bench.record import CPU, GPU, MEASURED, MET, MISSED, NOT_RUN, Goal, read_report, write_json
from bench.workloads import contestants as contestants_module
from bench.workloads.model import Model
from bench.workloads.setting import Setting, Size
from runtime.bundle import open_bundle
from runtime.commands.command_line import NO_GPU
from runtime.engines.processor import Gpu
from tests.bench.a_report import a_report
from tests.conftest import System

SMALL = Size(texts=4, batch=2, shapes=(), files=1, pixels=(1, 2), corpus=(), starts=0, requests=0, images=0)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "first_gpu", lambda: None)


def test_without_a_gpu_it_says_so_and_writes_nothing(
    no_gpu: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gpu-check", "--out", str(tmp_path / "out")]) == NO_GPU == 4
    told = capsys.readouterr()
    assert "There is no NVIDIA GPU here" in told.err
    assert "--stand-in" in told.err
    assert not told.out
    assert not list(tmp_path.iterdir())


def test_with_a_gpu_and_without_cuda_it_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "first_gpu", lambda: Gpu("a GPU", (9, 0)))
    monkeypatch.setattr(command, "unavailable_reason", lambda provider: f"{provider.name} is not installed")
    assert main(["gpu-check", "--out", str(tmp_path / "out")]) == NO_GPU
    assert "cuda is not installed" in capsys.readouterr().err
    monkeypatch.setattr(command, "unavailable_reason", lambda provider: None)
    monkeypatch.setattr(command, "library_fault", lambda name: "libcudnn.so.9 is missing")
    assert main(["gpu-check", "--out", str(tmp_path / "out")]) == NO_GPU
    assert "libcudnn.so.9 is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statuses", "partial", "more", "expected"),
    [
        ((MET, MET), "", [], 0),
        ((MET, MISSED), "", [], 1),
        ((MET, NOT_RUN), "the time was up", [], 1),
        ((MET, MISSED), "interrupted", [], 130),
        ((NOT_RUN, NOT_RUN), "", ["--stand-in"], NO_GPU),
    ],
)
def test_the_exit_status_is_the_goals(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    statuses,
    partial,
    more,
    expected,
) -> None:
    def checked(check, work, out, progress, replace):
        report = a_report(cases=("texts",), partial=partial)
        report.goals = [Goal(f"goal-{index}", "much", status, "some") for index, status in enumerate(statuses)]
        write_json(report, out / "report.json", replace)
        return report

    monkeypatch.setattr(command, "missing_gpu", lambda: "")
    monkeypatch.setattr(command, "check_gpu", checked)
    assert main(["gpu-check", "--out", str(tmp_path), *more]) == expected
    printed = capsys.readouterr().out
    assert f"{statuses[1]} " in printed
    assert "goal-1: much – some" in printed
    assert f"{statuses.count(MET)} met" in printed
    assert [goal.status for goal in read_report(tmp_path / "report.json").goals] == list(statuses)
    assert "Goals" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_who_takes_part_in_what(tiny: System, tmp_path: Path) -> None:
    model = Model(tiny.checkpoint, open_bundle(tiny.bundle))
    entries = contestants(model, stand_in=True)
    names = {entry.name for entry in entries}
    assert {"reference", "reference-gpu", "torch-varlen-fp16-gpu", "torch-graphs-fp16-gpu"} <= names
    assert {entry.contestant.device for entry in entries} == {CPU}
    assert not any("on the GPU" in entry.contestant.label for entry in entries)
    found = [plan for plan, _ in plans(Setting(model.bundle, entries, SMALL, 1, 0, tmp_path))]
    assert [plan.case.name for plan in found] == [
        "parity-texts", "texts", "query", "parity-images", "files", "pixels-1", "pixels-2",
    ]  # fmt: skip
    taking_part = {plan.case.name: {entry.name for entry in entries if plan.runs(entry)} for plan in found}
    assert taking_part["parity-images"] == {"reference", "engine-cpu-fp32"}
    graphs = {
        "attention-graph-fp32", "attention-graph-fp16", "half-residuals-fp16", "attention-half-residuals-fp16",
    }  # fmt: skip
    assert taking_part["parity-texts"] == taking_part["parity-images"] | graphs
    assert "reference" not in taking_part["texts"] | taking_part["files"], "it would take minutes"
    for one_by_one in ("torch-graphs-fp16-gpu", "cuda-graphs-fp16"):
        assert one_by_one in taking_part["query"]
        assert one_by_one not in taking_part["texts"] | taking_part["parity-texts"]
    assert {plan.case.baseline for plan in found} == {"reference", "reference-gpu"}


def test_on_a_gpu_it_is_cuda_that_takes_part(tiny: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contestants_module, "unavailable_reason", lambda provider: None)
    model = Model(tiny.checkpoint, open_bundle(tiny.bundle))
    found = contestants(model, stand_in=False)
    assert [entry.name for entry in found if entry.opener == "engine"] == ["engine-cuda-fp32"]
    assert {entry.contestant.device for entry in found if entry.name != "reference"} == {GPU}


@pytest.mark.slow
def test_a_check_with_the_processor_in_the_gpus_place(
    tiny: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {
        "reference",
        "reference-gpu",
        "torch-varlen-fp16-gpu",
        "engine-cpu-fp32",
        "attention-graph-fp16",
        "attention-half-residuals-fp16",
        "cuda-graphs-fp16",
    }
    monkeypatch.setattr(
        check_module, "contestants", lambda *given: [entry for entry in contestants(*given) if entry.name in kept]
    )
    monkeypatch.setattr(
        check_module, "plans", lambda setting: [each for each in plans(setting) if each[0].system == "texts"]
    )
    check = Check(tiny.checkpoint, tiny.bundle, "", "", 0, 1, 1, 5.0, True, "python -m bench gpu-check", SMALL)
    report = check_gpu(check, tmp_path / "work", tmp_path, lambda message: None)
    assert report.partial == ""
    assert read_report(tmp_path / "report.json") == report
    assert [case.name for case in report.cases] == ["parity-texts", "texts", "query"]
    assert {row.status for case in report.cases for row in case.rows} == {MEASURED}
    goals = {goal.name: goal for goal in report.goals}
    assert {goal.status for goal in goals.values()} == {NOT_RUN}
    assert "largest difference" in goals["parity-texts-fp32"].reason
    assert "tokens/s (engine-cpu-fp32)" in goals["texts"].reason
