"""GPU options, shapes and cache keys: all that can be tested without a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.engines import PROVIDERS, choose_provider, gpu, unavailable_reason
from runtime.engines.gpu import (
    Bucket,
    GraphInput,
    Shapes,
    cuda_options,
    engine_key,
    library_fault,
    model_digest,
    plan_buckets,
    tensorrt_options,
)
from runtime.engines.processor import Gpu

TEXT = (GraphInput("input_ids", ("batch", "sequence")), GraphInput("attention_mask", ("batch", "sequence")))
IMAGE = (GraphInput("pixel_values", ("batch", 480, 480)),)
A100 = Gpu("NVIDIA A100", (8, 0))


def test_text_has_an_engine_for_each_length() -> None:
    short, long = plan_buckets(TEXT, Shapes(text_batch=16, lengths=(64, 512)))
    assert short.options(TEXT) == {
        "trt_profile_min_shapes": "input_ids:1x1,attention_mask:1x1",
        "trt_profile_opt_shapes": "input_ids:16x64,attention_mask:16x64",
        "trt_profile_max_shapes": "input_ids:16x64,attention_mask:16x64",
    }
    assert long.options(TEXT)["trt_profile_min_shapes"] == "input_ids:1x65,attention_mask:1x65"
    assert long.options(TEXT)["trt_profile_max_shapes"] == "input_ids:16x512,attention_mask:16x512"


def test_images_have_one_engine() -> None:
    (bucket,) = plan_buckets(IMAGE, Shapes(image_batch=4))
    assert bucket.options(IMAGE) == {
        "trt_profile_min_shapes": "pixel_values:1x480x480",
        "trt_profile_opt_shapes": "pixel_values:4x480x480",
        "trt_profile_max_shapes": "pixel_values:4x480x480",
    }


@pytest.mark.parametrize("lengths", [(128, 512), (512, 128, 128), (1, 2, 3), (512,)])
def test_every_length_has_exactly_one_engine(lengths: tuple[int, ...]) -> None:
    ranges = [bucket.sizes["sequence"] for bucket in plan_buckets(TEXT, Shapes(lengths=lengths))]
    covered = [length for low, high in ranges for length in range(low, high + 1)]
    assert covered == list(range(1, max(lengths) + 1))


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="dynamic axes height; only batch and sequence"):
        plan_buckets([GraphInput("pixel_values", ("batch", "height", 480))], Shapes())


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", None), ("fp16", None), ("bf16", None), ("int8", "1"), ("int8-dynamic", None)]
)
def test_tensorrt_is_told_of_int8_and_never_of_fp16(precision: str, expected: str | None) -> None:
    """With trt_fp16_enable what the export kept in float32 would be computed in float16."""
    options = tensorrt_options(precision, TEXT, Bucket({"batch": (1, 8), "sequence": (1, 64)}), None, None)
    assert options.get("trt_int8_enable") == expected
    assert "trt_fp16_enable" not in options
    assert not [name for name in options if "cache" in name]


def test_caches_are_named_where_there_is_a_folder(tmp_path: Path) -> None:
    options = tensorrt_options("fp32", IMAGE, Bucket({"batch": (1, 8)}), tmp_path / "a", tmp_path / "b")
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
    assert options["trt_engine_cache_path"] == str(tmp_path / "a")
    assert options["trt_timing_cache_path"] == str(tmp_path / "b")


@pytest.mark.parametrize(("precision", "channels_last"), [("fp32", None), ("bf16", None), ("fp16", "1")])
def test_fp32_on_a_gpu_is_float32_and_fp16_has_channels_last(precision: str, channels_last: str | None) -> None:
    assert cuda_options(precision)["use_tf32"] == "0"
    assert cuda_options(precision).get("prefer_nhwc") == channels_last


@pytest.mark.parametrize(
    ("version", "known"),
    [("1.18.1", False), ("1.19.2", False), ("1.20.0", True), ("1.31.0", True), ("2.0.0", True), ("dev", False)],
)
def test_convolutions_take_their_bias_along_where_onnxruntime_can(version: str, known: bool) -> None:
    """Options that it does not know, it refuses; and in fp32 cuDNN's frontend may compute in TF32."""
    assert cuda_options("fp16", version).get("fuse_conv_bias") == ("1" if known else None)
    assert "fuse_conv_bias" not in cuda_options("fp32", version)


def test_the_key_changes_with_all_that_an_engine_depends_on() -> None:
    options = {"trt_profile_max_shapes": "a:8x64"}
    keys = [
        engine_key(A100, "1.31", "10.9", options),
        engine_key(Gpu("NVIDIA L4", (8, 9)), "1.31", "10.9", options),
        engine_key(None, "1.31", "10.9", options),
        engine_key(A100, "1.30", "10.9", options),
        engine_key(A100, "1.31", "10.8", options),
        engine_key(A100, "1.31", "10.9", {"trt_profile_max_shapes": "a:8x65"}),
        engine_key(A100, "1.31", "10.9", {**options, "trt_int8_enable": "1"}),
    ]
    assert len(set(keys)) == len(keys)
    assert engine_key(A100, "1.31", "10.9", {**options, "trt_engine_cache_path": "/anywhere"}) == keys[0]


def test_the_digest_covers_the_weights_beside_the_graph(tmp_path: Path) -> None:
    for copy in ("a", "b"):
        folder = tmp_path / copy / "onnx"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"...location model.onnx_data...")
        (folder / "model.onnx_data").write_bytes(b"weights")
        (folder / "other.onnx").write_bytes(b"another graph: " + copy.encode())
    first, second = (model_digest(tmp_path / copy / "onnx/model.onnx") for copy in ("a", "b"))
    assert first == second
    (tmp_path / "b/onnx/model.onnx_data").write_bytes(b"Weights")
    assert model_digest(tmp_path / "b/onnx/model.onnx") != first
    (tmp_path / "a/onnx/model.onnx").write_bytes(b"...location model.onnx_data..!")
    assert model_digest(tmp_path / "a/onnx/model.onnx") != first


def test_shapes_are_read_back_and_nonsense_is_refused() -> None:
    shapes = Shapes(4, 2, (32, 64))
    assert Shapes.from_json(shapes.to_json()) == shapes
    for text in ("{}", "[]", "no", '{"text_batch": 0, "image_batch": 1, "lengths": [1]}', '{"lengths": 3}'):
        with pytest.raises(ValueError, match=r"no shapes|Expecting"):
            Shapes.from_json(text)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "onnxruntime/__init__.py"))
    fault = library_fault("CUDAExecutionProvider")
    assert "libraries cannot be loaded" in fault
    assert "onnxruntime_providers_shared" in fault
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in fault


@pytest.mark.skipif(sys.platform != "linux", reason="builds shared libraries with cc")
def test_a_provider_that_loads_has_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's library uses a symbol of the shared one without depending on it, as ONNX Runtime's does."""
    onnxruntime = pytest.importorskip("onnxruntime")
    capi = tmp_path / "capi"
    capi.mkdir()
    sources = {
        "shared": "int cxr_engine_test_host(void) { return 1; }",
        "cuda": "int cxr_engine_test_host(void); int (*start)(void) = cxr_engine_test_host;",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.c").write_text(source)
        target = capi / f"libonnxruntime_providers_{name}.so"
        try:
            command = ["cc", "-shared", "-fPIC", "-o", str(target), str(tmp_path / f"{name}.c")]
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("there is no C compiler")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    assert library_fault("CUDAExecutionProvider") is None
    assert "libonnxruntime_providers_tensorrt.so" in library_fault("TensorrtExecutionProvider")


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_gpu_build_without_libraries_or_gpu_says_which(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: everything)
    monkeypatch.setattr(
        "runtime.engines.installed.library_fault", lambda provider: "libfoo.so.1 is missing. Install foo."
    )
    assert unavailable_reason(PROVIDERS[name]) == "libfoo.so.1 is missing. Install foo."
    monkeypatch.setattr("runtime.engines.installed.library_fault", lambda provider: None)
    monkeypatch.setattr("runtime.engines.installed.first_gpu", lambda: None)
    assert "no NVIDIA GPU" in unavailable_reason(PROVIDERS[name])
    assert "cuda" not in [provider.name for provider in choose_provider("auto")]
    monkeypatch.setattr("runtime.engines.installed.first_gpu", lambda: A100)
    assert unavailable_reason(PROVIDERS[name]) is None


def test_the_version_of_tensorrt_comes_from_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def version(package: str) -> str:
        if package != "tensorrt-cu12":
            raise metadata.PackageNotFoundError(package)
        return "10.9.0"

    monkeypatch.setattr(metadata, "version", version)
    assert gpu.tensorrt_version() == "10.9.0"
