"""`python -m export tensorrt`, with ONNX Runtime on the processor in TensorRT's place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import export.tensorrt as command
from export.__main__ import main
from export.tensorrt import plan_shapes
from runtime.bundle import open_bundle
from runtime.engines import tensorrt_session
from runtime.engines.gpu import Shapes
from runtime.engines.onnxruntime_session import OnnxRuntimeSession
from runtime.errors import InputError
from tests.runtime.handmade import artifact, fp32, write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "b", [fp32(), artifact("fp16", ["tensorrt"])], [fp32()])


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, str]]:
    """TensorRT seems to be here; gives the options of each engine."""
    options: list[dict[str, str]] = []

    def open_session(model: Path, provider: str, given: dict[str, str], settings: object) -> OnnxRuntimeSession:
        options.append(dict(given))
        return OnnxRuntimeSession(model, "CPUExecutionProvider", {}, settings)

    monkeypatch.setenv("CXR_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(command, "_TENSORRT", replace(command._TENSORRT, missing=lambda: None))
    monkeypatch.setattr(tensorrt_session, "library_fault", lambda provider: None)
    monkeypatch.setattr(tensorrt_session, "tensorrt_version", lambda: "10.9")
    monkeypatch.setattr(tensorrt_session, "OnnxRuntimeSession", open_session)
    return options


def test_engines_are_built_where_sessions_look_for_them(
    bundle: Path, gpu: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["tensorrt", str(bundle), "--max-batch", "4", "--lengths", "16,32", "--precision", "fp32", "--json"]) == 0
    )
    text, image = json.loads(capsys.readouterr().out)
    assert (text["part"], text["precision"], text["max_batch"], text["lengths"]) == ("text", "fp32", 4, [16, 32, 64])
    assert (image["part"], image["max_batch"], image["lengths"]) == ("image", 4, [])
    built = [options["trt_profile_max_shapes"].split(",")[0] for options in gpu]
    assert built == ["input_ids:4x16", "input_ids:4x32", "input_ids:4x64", "pixel_values:4x96x96"]
    folders = [Path(options["trt_engine_cache_path"]) for options in gpu]
    assert all(folder.is_dir() for folder in folders)
    assert folders[0].parent == Path(text["folder"])

    gpu.clear()
    tensorrt_session.TensorRtSession(bundle / "text/onnx/model_fp32.onnx", command.SessionOptions(1, "fp32"))
    assert [Path(options["trt_engine_cache_path"]) for options in gpu] == folders[:3]


def test_what_was_built_is_said(bundle: Path, gpu: list[dict[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tensorrt", str(bundle), "--precision", "fp32"]) == 0
    out = capsys.readouterr().out
    assert "text fp32: batches of 32, up to 64 tokens" in out
    assert "image fp32: batches of 8;" in out


def test_lengths_reach_the_longest_that_the_model_takes(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert plan_shapes(opened, None, ()) == Shapes(32, 8, (64,))
    assert plan_shapes(opened, 2, (16,)) == Shapes(2, 2, (16, 64))
    with pytest.raises(InputError, match=r"lengths \[65\].*up to 64 tokens"):
        plan_shapes(opened, None, (16, 65))


def test_without_tensorrt_it_says_what_is_missing(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if command._TENSORRT.missing() is None:
        pytest.skip("TensorRT is here")
    assert main(["tensorrt", str(bundle)]) == 1
    error = capsys.readouterr().err
    assert "ProviderError: TensorRT engines cannot be built here: " in error
    assert "pip install" in error


def test_without_a_cache_folder_there_is_nowhere_to_put_them(
    bundle: Path, gpu: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "cache_folder", lambda kind: None)
    assert main(["tensorrt", str(bundle)]) == 1
    assert "CXR_ENGINE_CACHE=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--lengths", "0"], ["--lengths", "a"], ["--max-batch", "0"]])
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["tensorrt", "b", *arguments])
    assert stopped.value.code == 2


def test_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tensorrt", str(tmp_path / "none")]) == 1
    assert "BundleError: There is no bundle" in capsys.readouterr().err
