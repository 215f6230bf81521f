"""The public interface on the tiny system."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import SENTENCES, chest_phantom
from runtime.engines import PROVIDERS, SessionOptions, providers
from runtime.engines.onnxruntime_session import OnnxRuntimeSession
from tests.conftest import System
from tests.runtime.sessions import watch_runs


@pytest.fixture(scope="module")
def engine(tiny: System) -> runtime.Engine:
    return runtime.load(tiny.bundle, provider="cpu", text_cache=0)


@pytest.fixture(scope="module")
def phantom() -> np.ndarray:
    return chest_phantom(150, 180, 1)


def test_load_says_what_it_chose(tiny: System) -> None:
    engine = runtime.load(tiny.bundle)
    assert engine.provider in PROVIDERS
    assert engine.precision == {"text": "fp32", "image": "fp32"}
    assert engine.manifest.family == "biovil"
    assert set(engine.fidelity) == {"text", "image"}
    assert repr(engine).startswith(f"Engine(family='biovil', provider='{engine.provider}', text=fp32")
    assert "image=fp32" in repr(engine)


def test_text_rows_come_back_in_order_and_do_not_depend_on_the_batch(engine: runtime.Engine) -> None:
    texts = [*SENTENCES, "1 " * 300, *SENTENCES[:5]]
    together = engine.text.encode(texts)
    assert together.dtype == np.float32
    assert together.shape == (len(texts), 128)
    alone = np.concatenate([engine.text.encode(text) for text in texts])
    assert np.abs(together - alone).max() <= 1e-5
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert len(np.unique(np.round(together, 4), axis=0)) > 30, "different texts have different embeddings"


def test_lengths_from_2_to_512(engine: runtime.Engine) -> None:
    for words in (0, 1, 2, 6, 61, 253, 509, 510):
        assert np.isfinite(engine.text.encode("1 " * words)).all()


def test_unnormalized_text_embeddings(engine: runtime.Engine) -> None:
    raw = engine.text.encode(SENTENCES[:4], normalize=False)
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    assert (np.abs(norms - 1) > 0.1).all()
    assert np.abs(raw / norms - engine.text.encode(SENTENCES[:4])).max() < 1e-6


def test_a_generator_of_texts(engine: runtime.Engine) -> None:
    assert engine.text.encode(text for text in ("a", "b")).shape == (2, 128)


def test_images_of_every_kind_have_the_same_embedding(
    engine: runtime.Engine, phantom: np.ndarray, tmp_path: Path
) -> None:
    file = tmp_path / "chest.png"
    Image.fromarray(phantom).save(file)
    embeddings = engine.image.encode([file, str(file), phantom, Image.fromarray(phantom), phantom.astype(float)])
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (5, 128)
    assert np.abs(embeddings - embeddings[0]).max() <= 1e-6
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_more_images_than_one_batch(engine: runtime.Engine) -> None:
    arrays = [chest_phantom(100 + index, 120, index) for index in range(19)]
    together = engine.image.encode(arrays)
    alone = np.concatenate([engine.image.encode(array) for array in arrays])
    assert np.abs(together - alone).max() <= 1e-5
    assert len(np.unique(np.round(together, 4), axis=0)) == 19


def test_patches(engine: runtime.Engine, phantom: np.ndarray) -> None:
    patches = engine.image.encode_patches([phantom, phantom])
    assert patches.shape == (2, 3, 3, 128)
    assert np.allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-6)


def test_similarity_is_the_cosine_with_the_averaged_prompts(engine: runtime.Engine, phantom: np.ndarray) -> None:
    texts = ["pleural effusion", "fluid"]
    mean = engine.text.encode(texts, normalize=False).mean(axis=0)
    expected = engine.image.encode(phantom)[0] @ (mean / np.linalg.norm(mean))
    assert engine.similarity(phantom, texts) == pytest.approx(float(expected), abs=1e-6)
    assert isinstance(engine.similarity(phantom, "fluid"), float)


def test_similarity_map_has_the_size_of_the_image_and_nan_outside_the_crop(
    engine: runtime.Engine, phantom: np.ndarray
) -> None:
    values = engine.similarity_map(phantom, "opacity")
    assert values.shape == phantom.shape == (150, 180)
    assert values.dtype == np.float32
    side = int(96 * 150 / 128)
    assert np.isfinite(values).sum() == side * side
    assert np.isfinite(values[75, 90])
    assert np.isnan(values[0]).all()
    assert np.isnan(values[:, 0]).all()


def test_bad_images_are_named_by_position_and_path(engine: runtime.Engine, phantom: np.ndarray, tmp_path: Path) -> None:
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"\x89PNG broken")
    with pytest.raises(runtime.InputError) as caught:
        engine.image.encode([phantom] * 9 + [bad, np.zeros((5, 5))])
    assert [fault.index for fault in caught.value.faults] == [9, 10]
    assert str(bad) in str(caught.value)
    assert "2 of 11 images" in str(caught.value)
    assert "[10] array: is constant" in str(caught.value)


def test_wrong_arguments(engine: runtime.Engine, phantom: np.ndarray) -> None:
    with pytest.raises(runtime.InputError, match="list of texts is empty"):
        engine.text.encode([])
    with pytest.raises(runtime.InputError, match="list of images is empty"):
        engine.image.encode([])
    with pytest.raises(runtime.InputError, match="2 images came where one"):
        engine.similarity([phantom, phantom], "x")
    with pytest.raises(runtime.InputError, match="list came where one phrase"):
        engine.similarity_map(phantom, ["x"])  # type: ignore[arg-type]
    with pytest.raises(runtime.InputError, match="int came where texts"):
        engine.text.encode(5)  # type: ignore[arg-type]
    with pytest.raises(runtime.InputError, match=r"uint8 \(N, 96, 96\) is expected"):
        engine.image.encode_pixels(np.zeros((1, 480, 480), dtype=np.uint8))
    assert issubclass(runtime.InputError, ValueError)


def test_parts(tiny: System) -> None:
    engine = runtime.load(tiny.bundle, parts=["text"])
    assert engine.precision == {"text": "fp32"}
    with pytest.raises(runtime.BundleError, match="image part was not loaded"):
        _ = engine.image
    with pytest.raises(runtime.InputError, match="no part 'sound'"):
        runtime.load(tiny.bundle, parts=["sound"])


def test_threads(tiny: System) -> None:
    assert runtime.load(tiny.bundle, threads=1).text.encode("x").shape == (1, 128)
    with pytest.raises(runtime.InputError, match="threads=0"):
        runtime.load(tiny.bundle, threads=0)


@pytest.mark.parametrize("name", list(PROVIDERS))
def test_every_provider_runs_or_says_why_not(
    tiny: System, engine: runtime.Engine, phantom: np.ndarray, name: str
) -> None:
    if PROVIDERS[name].missing() is not None:
        expected = rf"'{name}' was asked for, but .*pip install 'cxr-engine\[{PROVIDERS[name].extra}\]'"
        with pytest.raises(runtime.ProviderError, match=expected):
            runtime.load(tiny.bundle, provider=name)
        return
    other = runtime.load(tiny.bundle, provider=name)
    assert other.provider == name
    assert np.abs(other.image.encode(phantom) - engine.image.encode(phantom)).max() <= 1e-5
    assert np.abs(other.text.encode(SENTENCES) - engine.text.encode(SENTENCES)).max() <= 1e-5


def test_bf16_on_real_graphs(tiny: System, engine: runtime.Engine, phantom: np.ndarray) -> None:
    if PROVIDERS["openvino"].missing() or PROVIDERS["openvino"].refuses("bf16"):
        pytest.skip("OpenVINO with a processor that has BF16 is needed")
    half = runtime.load(tiny.bundle, provider="openvino", precision="bf16")
    assert half.precision == {"text": "bf16", "image": "bf16"}
    for found, expected in (
        (half.text.encode(SENTENCES), engine.text.encode(SENTENCES)),
        (half.image.encode(phantom), engine.image.encode(phantom)),
    ):
        assert (found * expected).sum(axis=1).min() > 0.999
        assert np.abs(found - expected).max() > 1e-5, "beyond the gate of fp32"


@pytest.mark.parametrize("name", ["cpu", "openvino"])
def test_threads_of_an_application_share_an_engine(tiny: System, engine: runtime.Engine, name: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    shared = runtime.load(tiny.bundle, provider=name)
    texts = [f"{index} effusions" for index in range(60)]
    with ThreadPoolExecutor(4) as pool:
        found = np.concatenate(list(pool.map(shared.text.encode, texts)))
    assert np.abs(found - engine.text.encode(texts)).max() <= 1e-5


def test_a_broken_engine_is_passed_over(tiny: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise RuntimeError('torn wheel')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    assert runtime.load(tiny.bundle).provider == "openvino"
    with pytest.raises(runtime.ProviderError, match=r"installed but cannot be imported \(torn wheel\)"):
        runtime.load(tiny.bundle, provider="cpu")


def test_an_unknown_provider_lists_the_known_ones(tiny: System) -> None:
    with pytest.raises(
        runtime.ProviderError, match="no provider 'gpu'; there are: auto, cpu, openvino, cuda, tensorrt"
    ):
        runtime.load(tiny.bundle, provider="gpu")


def test_without_any_engine_the_install_command_is_given(tiny: System, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    absent = ("onnxruntime", "openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else found(name, *rest))
    with pytest.raises(runtime.ProviderError, match=r"No inference engine.*pip install 'cxr-engine\[cpu\]'"):
        runtime.load(tiny.bundle)
    with pytest.raises(runtime.ProviderError, match="'onnxruntime' is not installed"):
        runtime.load(tiny.bundle, provider="cpu")


def test_a_session_that_fell_back_to_the_processor_is_refused(tiny: System) -> None:
    """ONNX Runtime opens the session without CUDA and says nothing; so does its GPU build on a machine without one."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    model = tiny.bundle / "text/onnx/model.onnx"
    with pytest.raises(runtime.ProviderError, match=r"CUDAExecution.* runs .* on CPUExecution.*Install an NV"):
        OnnxRuntimeSession(model, "CUDAExecutionProvider", {}, SessionOptions(1, "fp32"))


def test_batches_are_as_large_as_the_engine_that_runs_wants(tiny: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs need more than processors to be busy."""
    seen = watch_runs(monkeypatch, lambda session, inputs: next(iter(inputs.values())).shape[0])
    largest: dict[str, list[int]] = {}
    found = []
    for batch in ({"text": 64, "image": 2}, {"text": 4096, "image": 5}):
        provider = dataclasses.replace(PROVIDERS["cpu"], batch=batch, packs=False)
        monkeypatch.setattr(providers, "PROVIDERS", {**PROVIDERS, "cpu": provider})
        engine = runtime.load(tiny.bundle, provider="cpu")
        pixels = np.random.default_rng(0).integers(0, 256, (5, engine.image.crop, engine.image.crop), np.uint8)
        seen.clear()
        engine.text.encode([f"no {index} 1 1 1 1" for index in range(40)])
        largest.setdefault("text", []).append(max(seen))
        seen.clear()
        found.append(engine.image.encode_pixels(pixels))
        largest.setdefault("image", []).append(max(seen))
    assert np.abs(found[0] - found[1]).max() <= 1e-5
    assert largest["image"] == [2, 5]
    small, large = largest["text"]
    assert small < 8
    assert large == 40


def test_where_shapes_are_planned_for_there_are_two(tiny: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single image, and whole batches, each on a session of its own."""
    plain = runtime.load(tiny.bundle, provider="cpu", parts=["image"]).image
    pixels = np.random.default_rng(0).integers(0, 256, (6, plain.crop, plain.crop), np.uint8)
    expected = plain.encode_pixels_and_patches(pixels)
    assert plain.encode_pixels(pixels[:0]).shape == (0, 128)
    seen = watch_runs(monkeypatch, lambda session, inputs: (id(session), len(inputs["pixel_values"])))
    provider = dataclasses.replace(PROVIDERS["cpu"], batch={"image": 4}, packs=False, whole_batches=True)
    monkeypatch.setattr(providers, "PROVIDERS", {**PROVIDERS, "cpu": provider})
    image = runtime.load(tiny.bundle, provider="cpu", parts=["image"]).image
    films = [Image.fromarray(chest_phantom(150, 180, index)) for index in range(6)]
    together = image.encode(films)
    for found, wanted in (
        (image.encode_pixels_and_patches(pixels), expected),
        (image.encode_pixels_and_patches(pixels[:1]), [each[:1] for each in expected]),
        ([image.encode_pixels_in_bulk(pixels)], expected[:1]),
        ([np.stack(list(image.encode_iter(films)))], [together]),
        ([np.concatenate([image.encode(film) for film in films])], [together]),
    ):
        for left, right in zip(found, wanted, strict=True):
            assert left.shape == right.shape
            assert np.abs(left - right).max() <= 1e-5
    assert {count for _, count in seen} == {1, 4}
    assert len(set(seen)) == len({session for session, _ in seen}) == 2
