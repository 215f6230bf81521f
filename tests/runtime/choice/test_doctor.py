"""`python -m runtime doctor`: what it finds, that it really computes, and that nothing makes it fall ill."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from runtime.__main__ import main
from runtime.choice import doctor
from runtime.choice.doctor import examine, find_conflicts, print_report, works
from runtime.engines import PROVIDERS, installed, probe, processor, providers
from runtime.engines.cores import Cores
from runtime.engines.processor import Gpu, processor_features
from runtime.engines.providers import explain_auto
from runtime.process import apart
from tests.conftest import run_module
from tests.runtime.handmade import artifact, fp32, record, write_bundle


def with_provider(monkeypatch: pytest.MonkeyPatch, name: str, **changes: object) -> None:
    table = {**doctor.PROVIDERS, name: replace(PROVIDERS[name], **changes)}
    for module in (doctor, providers):
        monkeypatch.setattr(module, "PROVIDERS", table)


def engines_answer(monkeypatch: pytest.MonkeyPatch, **faults: str) -> None:
    """Have the probe find these faults, and none in the others."""
    monkeypatch.setattr(doctor, "probe_apart", lambda name: faults.get(name))


def test_the_probe_is_what_its_comment_says() -> None:
    model = onnx.load_from_string(probe.MODEL)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Relu"]
    (found,) = ReferenceEvaluator(model).run(["y"], {"x": np.array(probe.INPUT, np.float32)})
    assert found.tolist() == [list(row) for row in probe.OUTPUT]


@pytest.mark.parametrize("name", [name for name in ("cpu", "openvino") if PROVIDERS[name].missing() is None])
def test_engines_that_are_here_compute(name: str) -> None:
    assert probe.probe_apart(name) is None


def test_a_wrong_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def run(self, outputs, inputs):
            return [inputs["x"]]

    broken = replace(PROVIDERS["cpu"], open=lambda model, options: Wrong())
    monkeypatch.setattr(providers, "PROVIDERS", {"cpu": broken})
    assert "it computes [[1.0, 1.0]" in probe.probe("cpu")


def test_an_engine_that_raises_is_told_by_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: Path, options: object) -> None:
        raise ValueError("no such kernel")

    monkeypatch.setattr(providers, "PROVIDERS", {"cpu": replace(PROVIDERS["cpu"], open=fail)})
    assert probe.probe("cpu") == "ValueError: no such kernel"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "its process ended with -4"),
        ("raise SystemExit('out of order')", "its process ended with 1: out of order"),
        ("print('hello')", "its process printed 'hello'"),
        ("import time; time.sleep(60)", "did not answer within 1 seconds"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_engine_that_ends_its_process_ends_no_other(monkeypatch: pytest.MonkeyPatch, code: str, fault: str) -> None:
    run = subprocess.run
    monkeypatch.setattr(probe, "_SECONDS", 1)
    monkeypatch.setattr(
        apart.subprocess, "run", lambda command, **options: run([sys.executable, "-S", "-c", code], **options)
    )
    assert fault in probe.probe_apart("cpu")


def test_an_engine_that_does_not_compute_is_no_working_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines_answer(monkeypatch, cpu="it computes [[0.0]] where [[4.0]] is right", openvino="its process ended with -4")
    report = examine()
    assert report["engines"]["cpu"]["reason"] == (
        "it is installed but does not compute: it computes [[0.0]] where [[4.0]] is right"
    )
    assert not works(report)
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "No inference engine works here" in captured.out
    assert "ProviderError" in captured.err


def test_one_engine_is_enough(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engines_answer(monkeypatch, openvino="broken")
    assert main(["doctor"]) == 0
    assert "openvino is installed but does not run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("installed", "advice"),
    [
        (["onnxruntime", "onnxruntime-gpu"], "uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"),
        (["onnxruntime-directml", "onnxruntime"], "onnxruntime and onnxruntime-directml are installed side by side"),
        (["onnxruntime-gpu", "openvino"], None),
        (["onnxruntime"], None),
        ([], None),
    ],
)
def test_wheels_that_share_their_files_are_a_conflict(installed: list[str], advice: str | None) -> None:
    conflicts = find_conflicts(installed)
    assert (advice in conflicts[0]) if advice else conflicts == []


def test_two_wheels_side_by_side_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        folder = tmp_path / f"{name.replace('-', '_')}-9.9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    engines_answer(monkeypatch)
    report = examine()
    assert report["packages"]["onnxruntime-gpu"] == "9.9.9"
    assert any("overwrite each other's files" in problem for problem in report["problems"])
    assert "cuda is installed but does not run: the reason stands with the engine" in report["problems"]


def test_an_engine_that_is_not_installed_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    engines_answer(monkeypatch)
    monkeypatch.setattr(doctor, "_installed", lambda names: {"onnxruntime": "1.31.1"})
    with_provider(monkeypatch, "openvino", missing=lambda: "the package 'openvino' is not installed")
    report = examine()
    assert report["problems"] == []
    assert "pip install 'cxr-engine[openvino]'" in report["engines"]["openvino"]["reason"]


def test_nothing_makes_it_fall_ill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def ill(*arguments: object) -> None:
        raise RuntimeError("ill")

    for name in PROVIDERS:
        with_provider(monkeypatch, name, missing=ill)
    for name in ("first_gpu", "explain_auto", "tensorrt_version"):
        monkeypatch.setattr(doctor, name, ill)
    monkeypatch.setattr(doctor.metadata, "version", ill)
    report = examine()
    print_report(report)
    assert "No inference engine works here" in capsys.readouterr().out


def test_a_folder_that_an_uninstallation_left_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime").mkdir()
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    found = [str(tmp_path), *(path for path in sys.path if "site-packages" not in path)]
    monkeypatch.setattr(sys, "path", found)
    assert "it is empty" in PROVIDERS["cpu"].missing()
    assert "pip install --force-reinstall --no-deps onnxruntime" in providers.unavailable_reason(PROVIDERS["cpu"])


def test_files_that_another_wheel_took_along_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip uninstall onnxruntime-gpu` beside onnxruntime: pip then finds onnxruntime installed and does nothing."""
    find_spec = importlib.util.find_spec
    absent = ("onnxruntime", "openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find_spec(name))
    monkeypatch.setattr(installed.metadata, "version", lambda name: {"onnxruntime-gpu": "1.31.1"}[name])
    assert providers.unavailable_reason(PROVIDERS["cuda"]) == (
        "the package 'onnxruntime' is not installed: pip lists it, but its files are gone. "
        "Install it anew with: pip install --force-reinstall --no-deps onnxruntime-gpu."
    )
    assert providers.unavailable_reason(PROVIDERS["openvino"]) == (
        "the package 'openvino' is not installed. Install it with: pip install 'cxr-engine[openvino]'"
    )


def test_auto_is_explained_as_it_chooses() -> None:
    steps = explain_auto()
    assert [step.provider for step in steps if step.taken] == [providers.choose_provider("auto")[0].name]
    assert {step.provider for step in steps} == set(PROVIDERS)


def test_what_a_bundle_would_take(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import runtime

    engines_answer(monkeypatch)
    bundle = write_bundle(
        tmp_path / "b",
        [
            fp32(*(record(name, 1.0, 20, "fp32") for name in ("cpu", "openvino"))),
            artifact("int8", ["cpu", "openvino"], *(record(name, 0.999, 5, "int8") for name in ("cpu", "openvino"))),
        ],
    )
    report = examine(bundle)
    loaded = runtime.load(bundle)
    assert report["bundle"]["provider"] == loaded.provider
    assert report["bundle"]["choices"] == [f"{loaded.choices['text']}: {loaded.choices['text'].reason}"]
    print_report(report)
    assert "text int8 (mean cosine 0.9990" in capsys.readouterr().out
    assert main(["doctor", str(tmp_path / "none")]) == 1
    assert "There is no bundle" in capsys.readouterr().out


@pytest.mark.slow
def test_it_fits_a_screen_and_says_the_same_as_json() -> None:
    shown = run_module("runtime", "doctor").stdout.splitlines()
    assert len(shown) <= 30
    assert max(map(len, shown)) <= 120
    report = json.loads(run_module("runtime", "doctor", "--json").stdout)
    assert report["engines"]["cpu"]["runs"] is True
    assert any(line.startswith("  cpu       runs on") for line in shown)
    assert report["cores"]["threads"] >= 1
    assert report["packages"]["numpy"] == np.__version__


def test_a_terminal_without_unicode_gets_its_report(tmp_path: Path) -> None:
    import os

    process = run_module(
        "runtime", "doctor", str(tmp_path / "Aufnahmen-ü→"), expect=1, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert "Aufnahmen-\\xfc->" in process.stdout
    assert "Traceback" not in process.stderr


def test_a_machine_with_everything_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines_answer(monkeypatch)
    monkeypatch.setattr(doctor, "first_gpu", lambda: Gpu("NVIDIA L4", (8, 9)))
    monkeypatch.setattr(doctor, "find_cores", lambda: Cores(16, 8, 4, 3.5))
    monkeypatch.setattr(doctor, "memory_limit", lambda: 4 << 30)
    monkeypatch.setattr(doctor, "processor_features", lambda: None)
    print_report(examine())
    out = capsys.readouterr().out
    assert "NVIDIA L4, compute capability 8.9" in out
    assert "16 logical, 8 allowed to this process on 4 physical, a CPU quota of 3.5; computes with threads=3" in out
    assert "limited to 4.0 GiB" in out
    assert "features unknown" in out


@pytest.mark.parametrize(
    ("line", "features"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni amx_bf16", ("AVX2", "AVX512F", "AVX512_VNNI", "AMX_BF16")),
        ("flags\t\t: fpu sse2", ()),
        ("Features\t: fp asimd asimddp i8mm bf16", ("DotProd", "I8MM", "BF16")),
        ("nothing", None),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_features_of_the_processor(tmp_path: Path, line: str, features: tuple[str, ...] | None) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert processor_features(tmp_path) == features


def test_features_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"hw.optional": "hw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_I8MM: 0\nhw.optional.neon: 1"}
    monkeypatch.setattr(processor.sys, "platform", "darwin")
    monkeypatch.setattr(processor, "_sysctl", lambda *arguments: said.get(arguments[-1], ""))
    assert processor_features() == ("BF16",)
