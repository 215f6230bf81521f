"""Engines per bucket and their cache, with ONNX Runtime on the processor in TensorRT's place."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from runtime.engines import SessionOptions, tensorrt_session
from runtime.engines.gpu import GraphInput, Shapes
from runtime.engines.onnxruntime_session import OnnxRuntimeSession
from runtime.engines.tensorrt_session import TensorRtSession, graph_inputs, model_folder, save_shapes
from runtime.errors import ProviderError
from tests.runtime.handmade import CROP, expected_text, fp32, write_bundle

FP32 = SessionOptions(1, "fp32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "b", [fp32()], [fp32()])


class Gpu:
    """Stands in for TensorRT: keeps "engines" as files where it is told to, and fails on broken ones as it does."""

    def __init__(self) -> None:
        self.options: list[dict[str, str]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.built = 0
        self.error = "TensorRT EP could not deserialize engine from cache"

    def open(self, model: Path, provider: str, options: dict[str, str], session: SessionOptions):
        assert provider == "TensorrtExecutionProvider"
        self.options.append(options)
        if "trt_engine_cache_path" in options:
            engine = Path(options["trt_engine_cache_path"]) / "x.engine"
            if engine.exists() and engine.read_text() != "whole":
                raise ProviderError(self.error)
            self.built += not engine.exists()
            engine.write_text("whole")
        opened = OnnxRuntimeSession(model, "CPUExecutionProvider", {}, session)
        gpu = self

        class Watched:
            def run(self, outputs, inputs):
                gpu.shapes.append(next(iter(inputs.values())).shape)
                return opened.run(outputs, inputs)

        return Watched()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpu:
    fake = Gpu()
    monkeypatch.setenv("CXR_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt_session, "library_fault", lambda provider: None)
    monkeypatch.setattr(tensorrt_session, "tensorrt_version", lambda: "10.9")
    monkeypatch.setattr(tensorrt_session, "OnnxRuntimeSession", fake.open)
    return fake


def tokens(rows: int, length: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(rows * length).integers(5, 15, (rows, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def text(bundle: Path) -> Path:
    return bundle / "text/onnx/model_fp32.onnx"


def test_the_inputs_of_a_graph_are_read(bundle: Path, tmp_path: Path) -> None:
    assert graph_inputs(text(bundle)) == (
        GraphInput("input_ids", ("batch", "sequence")),
        GraphInput("attention_mask", ("batch", "sequence")),
    )
    assert graph_inputs(bundle / "image/onnx/model_fp32.onnx") == (GraphInput("pixel_values", ("batch", CROP, CROP)),)
    (tmp_path / "torn.onnx").write_bytes(b"torn")
    with pytest.raises(ProviderError, match=r"cannot read .*torn\.onnx"):
        graph_inputs(tmp_path / "torn.onnx")


def test_batches_of_any_size_and_length_are_computed(bundle: Path, gpu: Gpu) -> None:
    """Each goes to the engine that takes it, in pieces that it takes, and the rows come back in order."""
    session = TensorRtSession(text(bundle), FP32)
    most = Shapes().text_batch
    for rows, length in ((1, 3), (most, 128), (most + 1, 129), (2 * most + 5, 4)):
        inputs = tokens(rows, length)
        (found,) = session.run(["text_embeds"], inputs)
        expected = np.stack([expected_text("onnx/model_fp32.onnx", row) for row in inputs["input_ids"]])
        assert np.abs(found - expected).max() < 1e-5
    assert max(rows for rows, _ in gpu.shapes) == most
    with pytest.raises(ProviderError, match="up to 512 tokens; 513 came"):
        session.run(["text_embeds"], tokens(1, 513))


def test_images_are_cut_into_batches_too(bundle: Path, gpu: Gpu) -> None:
    session = TensorRtSession(bundle / "image/onnx/model_fp32.onnx", FP32)
    pixels = np.random.default_rng(0).integers(0, 255, (Shapes().image_batch + 3, CROP, CROP), dtype=np.uint8)
    found = session.run(["image_embeds", "patch_embeds"], {"pixel_values": pixels})
    reference = OnnxRuntimeSession(bundle / "image/onnx/model_fp32.onnx", "CPUExecutionProvider", {}, FP32)
    for mine, its in zip(found, reference.run(["image_embeds", "patch_embeds"], {"pixel_values": pixels}), strict=True):
        assert np.abs(mine - its).max() < 1e-6
    assert [shape[0] for shape in gpu.shapes] == [Shapes().image_batch, 3]


def test_engines_are_built_once_and_that_is_announced(bundle: Path, gpu: Gpu, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "runtime"):
        TensorRtSession(text(bundle), FP32)
        assert gpu.built == 2
        assert [record.getMessage().count("takes minutes") for record in caplog.records] == [1, 1]
        TensorRtSession(text(bundle), FP32)
        assert gpu.built == len(caplog.records) == 2
    assert len({options["trt_engine_cache_path"] for options in gpu.options}) == 2, "an engine for each length"
    assert len({options["trt_timing_cache_path"] for options in gpu.options}) == 1, "timings are shared"


def test_another_version_or_precision_is_another_engine(
    bundle: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    TensorRtSession(text(bundle), FP32)
    TensorRtSession(text(bundle), SessionOptions(1, "int8"))
    assert gpu.built == 4
    monkeypatch.setattr(tensorrt_session, "tensorrt_version", lambda: "10.10")
    TensorRtSession(text(bundle), FP32)
    assert gpu.built == 6


def test_a_broken_cached_engine_is_built_anew_with_a_notice(
    bundle: Path, gpu: Gpu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    TensorRtSession(text(bundle), FP32)
    engines = sorted((tmp_path / "cache").rglob("*.engine"))
    engines[0].write_text("cut sho")
    with caplog.at_level(logging.WARNING, "runtime"):
        TensorRtSession(text(bundle), FP32)
    assert gpu.built == 3
    assert "is built anew" in caplog.text
    assert str(engines[0].parent) in caplog.text
    assert [engine.read_text() for engine in engines] == ["whole", "whole"]


def test_a_failure_that_is_not_the_caches_raises(bundle: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ProviderError("no kernel")

    monkeypatch.setattr(tensorrt_session, "OnnxRuntimeSession", fail)
    with pytest.raises(ProviderError, match="no kernel"):
        TensorRtSession(text(bundle), FP32)


def test_a_full_gpu_costs_no_engine(bundle: Path, gpu: Gpu, tmp_path: Path) -> None:
    TensorRtSession(text(bundle), FP32)
    engine = next((tmp_path / "cache").rglob("*.engine"))
    engine.write_text("whole, but there is no room")
    gpu.error = "CUDA failure 2: out of memory"
    with pytest.raises(ProviderError, match="out of memory"):
        TensorRtSession(text(bundle), FP32)
    assert engine.exists()


def test_without_a_cache_folder_engines_are_built_each_time(
    bundle: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_session, "cache_folder", lambda kind, root: None)
    session = TensorRtSession(text(bundle), FP32)
    assert not [name for options in gpu.options for name in options if "cache" in name]
    assert session.run(["text_embeds"], tokens(2, 5))[0].shape == (2, 16)


def test_saved_shapes_are_what_engines_are_built_for(
    bundle: Path, gpu: Gpu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    top = tmp_path / "cache/tensorrt"
    top.mkdir(parents=True)
    folder = model_folder(top, text(bundle))
    save_shapes(folder, Shapes(text_batch=4, lengths=(16,)))
    session = TensorRtSession(text(bundle), FP32)
    assert [options["trt_profile_max_shapes"] for options in gpu.options] == ["input_ids:4x16,attention_mask:4x16"]
    with pytest.raises(ProviderError, match=r"up to 16 tokens; 20 came.*--lengths 16,20"):
        session.run(["text_embeds"], tokens(1, 20))
    (folder / "shapes.json").write_text("{")
    with caplog.at_level(logging.WARNING, "runtime"):
        TensorRtSession(text(bundle), FP32)
    assert "default shapes" in caplog.text
    assert gpu.options[-1]["trt_profile_max_shapes"] == "input_ids:32x512,attention_mask:32x512"


def test_without_tensorrt_nothing_is_opened(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_session, "library_fault", lambda provider: "libnvinfer.so.10 is missing. Install it.")
    with pytest.raises(ProviderError, match=r"cannot open .*model_fp32\.onnx: libnvinfer\.so\.10 is missing"):
        TensorRtSession(text(bundle), FP32)
