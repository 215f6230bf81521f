"""CUDA against the processor, on a machine that has a GPU; the rest of what is said of GPUs is tested without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import runtime
from export.build import CalibrationSources, export_bundle
from export.precision import Lowering
from runtime.engines import PROVIDERS
from runtime.engines.gpu import cuda_options
from tests.conftest import System, tiny_family

WHY_NOT = PROVIDERS["cuda"].missing()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"CUDA cannot run here: {WHY_NOT}")

TEXTS = [f"{index} " * (1 + index % 70) for index in range(300)]  # more than one batch
LEAST_COSINE = 0.9995


@pytest.fixture(scope="module")
def halves(tiny: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With random weights fidelity is reported, not enforced."""
    out = tmp_path_factory.mktemp("halves") / "bundle"
    lowering = Lowering(precisions=("fp32", "fp16", "bf16"), enforced=False)
    few = CalibrationSources(texts=48, texts_held_out=24, images_count=16, images_held_out=8)
    export_bundle(tiny_family(), str(tiny.checkpoint), out, lowering=lowering, calibration=few)
    return out


def pixels(engine: runtime.Engine, count: int = 20) -> np.ndarray:
    """More than one batch."""
    return np.random.default_rng(0).integers(0, 256, (count, engine.image.crop, engine.image.crop), np.uint8)


def test_fp32_gives_the_processors_answers(tiny: System) -> None:
    there, here = (runtime.load(tiny.bundle, name, "fp32") for name in ("cuda", "cpu"))
    assert there.provider == "cuda"
    assert np.abs(there.text.encode(TEXTS) - here.text.encode(TEXTS)).max() <= 1e-5
    images = pixels(here)
    for found, expected in zip(
        there.image.encode_pixels_and_patches(images), here.image.encode_pixels_and_patches(images), strict=True
    ):
        assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize(("part", "precision"), [("text", "fp16"), ("text", "bf16"), ("image", "fp16")])
def test_half_precision_is_near(halves: Path, part: str, precision: str, capfd: pytest.CaptureFixture[str]) -> None:
    there = runtime.load(halves, "cuda", precision, parts=[part])
    here = runtime.load(halves, "cpu", "fp32", parts=[part])
    capfd.readouterr()
    if part == "text":
        found, expected = (engine.text.encode(TEXTS) for engine in (there, here))
    else:
        found, expected = (engine.image.encode_pixels(pixels(here)) for engine in (there, here))
    assert (found * expected).sum(axis=1).min() > LEAST_COSINE
    assert np.abs(found - expected).max() > 1e-6, "it was computed in less than float32"
    assert capfd.readouterr().err == "", "what cuDNN has no plan for is no error"


def test_auto_takes_the_gpu(tiny: System) -> None:
    assert runtime.load(tiny.bundle).provider == "cuda"


def test_what_does_not_fit_is_said(tiny: System, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.engines import onnxruntime_session as module

    small = {**cuda_options("fp32"), "gpu_mem_limit": str(64 << 20)}
    monkeypatch.setattr(module, "cuda_options", lambda precision: small)
    engine = runtime.load(tiny.bundle, "cuda", "fp32", parts=["text"])
    with pytest.raises(runtime.ProviderError, match=r"CUDAExecutionProvider cannot compute input_ids \d+×\d+"):
        engine.text.encode(["1 " * 500 + str(index) for index in range(64)])
