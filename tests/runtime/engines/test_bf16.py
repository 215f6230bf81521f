"""bf16: who computes it and who refuses, and what each engine is told for a precision."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.engines import PROVIDERS, SessionOptions, processor_name
from runtime.engines.onnxruntime_session import OnnxRuntimeSession
from runtime.engines.openvino_session import OpenVinoSession
from runtime.engines.processor import Gpu
from tests.runtime.handmade import WORDS, artifact, choose, fp32, record, write_bundle

TEXTS = [" ".join(WORDS[start:]) for start in range(len(WORDS))]


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def lacks_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make OpenVINO report a processor without BF16."""
    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(openvino.Core, "get_property", lambda self, device, name: ["FP32", "INT8"])


def has_bf16() -> bool:
    return PROVIDERS["openvino"].missing() is None and PROVIDERS["openvino"].refuses("bf16") is None


needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="OpenVINO with a processor that has BF16 is needed")


@needs_bf16
def test_openvino_computes_an_fp32_artifact_in_bf16(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", [fp32(record("openvino", 0.99998, 20, "bf16"))], [fp32()])
    exact = runtime.load(bundle, provider="openvino", precision="fp32")
    engine = runtime.load(bundle, provider="openvino", precision="bf16")
    assert engine.precision == {"text": "bf16", "image": "bf16"}
    assert "text=bf16 (mean cosine 0.99998" in repr(engine)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 96, 96), dtype=np.uint8)
    for found, expected in (
        (engine.text.encode(TEXTS), exact.text.encode(TEXTS)),
        (engine.image.encode_pixels(pixels), exact.image.encode_pixels(pixels)),
    ):
        assert cosines(found, expected).min() > 0.999
        assert np.abs(found - expected).max() > 1e-4, "bfloat16 has 8 bits of mantissa"
    assert runtime.load(bundle, precision="bf16").provider == "openvino", "the processor of ONNX Runtime has none"


@needs_bf16
def test_auto_takes_bf16_where_it_was_measured(tmp_path: Path) -> None:
    measured = [record("openvino", 1.0, 90, "fp32"), record("openvino", 0.99998, 40, "bf16")]
    bundle = write_bundle(tmp_path / "b", [fp32(*measured)])
    assert runtime.load(bundle, provider="openvino").precision == {"text": "bf16"}


def test_bf16_is_refused_on_a_processor_that_lacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = [record("openvino", 1.0, 90, "fp32"), record("openvino", 0.99998, 40, "bf16")]
    bundle = write_bundle(tmp_path / "b", [fp32(*measured)])
    lacks_bf16(monkeypatch)
    expected = (
        rf"'openvino' does not compute in bf16 here: {re.escape(processor_name())} has neither AVX512_BF16 nor AMX_BF16"
    )
    with pytest.raises(runtime.ProviderError, match=expected):
        runtime.load(bundle, provider="openvino", precision="bf16")
    assert runtime.load(bundle, provider="openvino").precision == {"text": "fp32"}, "no error under auto"
    with pytest.raises(runtime.ProviderError) as caught:
        runtime.load(bundle, precision="bf16")
    assert "cpu: Provider 'cpu' does not compute in bf16" in str(caught.value)
    assert "openvino: Provider 'openvino' does not" in str(caught.value)


def test_bf16_is_refused_by_onnx_runtime_on_the_processor(tmp_path: Path) -> None:
    """Even of a bundle that has such an artifact, or a record that says it ran."""
    entries = [fp32(record("cpu", 1.0, 1, "bf16")), artifact("bf16", ["cpu", "cuda"], record("cpu", 1.0, 1, "bf16"))]
    bundle = write_bundle(tmp_path / "b", entries)
    with pytest.raises(runtime.ProviderError, match=r"'cpu' does not compute in bf16 here: .*provider='openvino'"):
        runtime.load(bundle, provider="cpu", precision="bf16")
    assert runtime.load(bundle, provider="cpu").precision == {"text": "fp32"}


def test_cuda_computes_bf16_of_a_bf16_artifact_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.engines.providers.first_gpu", lambda: Gpu("NVIDIA A100", (8, 0)))
    lacking = write_bundle(tmp_path / "lacking", [fp32(record("cuda", 1.0, 1, "bf16"))])
    assert choose(lacking, "cuda").precision == "fp32"
    with pytest.raises(runtime.BundleError, match=r"'bf16'; it has: fp32 .*--precision fp32,bf16"):
        choose(lacking, "cuda", "bf16")
    measured = record("cuda", 1.0, 1, "bf16", "NVIDIA A100")
    having = write_bundle(tmp_path / "having", [fp32(), artifact("bf16", ["cuda"], measured)])
    assert choose(having, "cuda", "bf16").artifact.file == "text/onnx/model_bf16.onnx"
    assert choose(having, "cuda").fidelity == measured
    monkeypatch.setattr("runtime.engines.providers.first_gpu", lambda: Gpu("Tesla T4", (7, 5)))
    with pytest.raises(runtime.ProviderError, match=r"Tesla T4 has compute capability 7\.5; bf16 needs 8\.0"):
        choose(having, "cuda", "bf16")
    assert choose(having, "cuda").precision == "fp32"


# --- what engines are told --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("fp32", {"INFERENCE_PRECISION_HINT": "f32"}),
        ("fp16", {"INFERENCE_PRECISION_HINT": "f32"}),
        pytest.param("bf16", {"INFERENCE_PRECISION_HINT": "bf16"}, marks=needs_bf16),
        pytest.param("int8", {"INFERENCE_PRECISION_HINT": "bf16"}, marks=needs_bf16),
        pytest.param(
            "int8-dynamic",
            {"INFERENCE_PRECISION_HINT": "bf16", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 64},
            marks=needs_bf16,
        ),
    ],
)
def test_what_openvino_says_it_computes_in(tmp_path: Path, precision: str, expected: dict[str, object]) -> None:
    openvino = pytest.importorskip("openvino")
    bundle = write_bundle(tmp_path / "b", [fp32()])
    session = OpenVinoSession(bundle / "text/onnx/model_fp32.onnx", SessionOptions(1, precision))
    types = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16}
    for name, value in expected.items():
        assert session._compiled.get_property(name) == types.get(value, value)


def test_onnx_runtime_is_told_to_multiply_blockwise_weights_in_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    told: list[tuple[str, str]] = []

    class Watched(onnxruntime.SessionOptions):
        def add_session_config_entry(self, key: str, value: str) -> None:
            told.append((key, value))
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Watched)
    model = write_bundle(tmp_path / "b", [fp32()]) / "text/onnx/model_fp32.onnx"
    OnnxRuntimeSession(model, "CPUExecutionProvider", {}, SessionOptions(1, "fp32"))
    assert told == []
    OnnxRuntimeSession(model, "CPUExecutionProvider", {}, SessionOptions(1, "int8-dynamic"))
    assert told == [("session.qdq_matmulnbits_accuracy_level", "4")]
