"""What models answer, beside the engine itself: batches of several requests, of which some are bad."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from runtime.errors import InputError
from runtime.triton.films import film_of
from runtime.triton.model import TritonPythonModel
from runtime.triton.settings import Settings
from runtime.triton.tasks import TASKS, open_task
from tests.runtime.dicoms import write_dicom
from tests.runtime.handmade import fp32, write_bundle
from tests.runtime.triton import backend
from tests.runtime.triton.backend import InferenceRequest

Opener = Callable[..., TritonPythonModel]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("handmade") / "bundle", [fp32()], [fp32()])


@pytest.fixture
def opened(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend.as_module())

    def open_model(task: str, **parameters: str) -> TritonPythonModel:
        model = TritonPythonModel()
        model.initialize(arguments(bundle, task=task, provider="cpu", **parameters))
        return model

    return open_model


def arguments(bundle: Path, **parameters: str) -> dict[str, str]:
    stated = {"bundle": str(bundle), **parameters}
    config = {"parameters": {key: {"string_value": value} for key, value in stated.items()}}
    return {"model_config": json.dumps(config), "model_repository": str(bundle.parent / "models" / "m")}


def rows(*items: bytes | str) -> np.ndarray:
    return np.array([[each.encode() if isinstance(each, str) else each] for each in items], dtype=object)


def texts(*items: bytes | str) -> InferenceRequest:
    return InferenceRequest({"TEXT": rows(*items)})


def film(seed: int, mode: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (120, 140), dtype=np.uint8)).save(data, mode)
    return data.getvalue()


def test_each_request_gets_its_own_texts(bundle: Path, opened: Opener) -> None:
    model = opened("embed_text")
    asked = [["No effusion", "left opacity"], ["clear lungs"], ["edema", "small", "No effusion"]]
    found = model.execute([texts(*each) for each in asked])
    engine = runtime.load(bundle, provider="cpu")
    for each, response in zip(asked, found, strict=True):
        np.testing.assert_allclose(response.of("EMBEDDING"), engine.text.encode(each), atol=1e-6)
    assert not np.allclose(found[0].of("EMBEDDING")[0], found[0].of("EMBEDDING")[1], atol=1e-3)


def test_a_bad_text_fails_its_own_request(opened: Opener) -> None:
    model = opened("embed_text", max_characters="40")
    good, bad, broken, long = model.execute(
        [texts("clear lungs"), texts("edema", "secret [CLS]"), texts(b"\xff"), texts("left " * 20)]
    )
    assert good.of("EMBEDDING").shape == (1, 16)
    assert bad.error.code == "invalid argument"
    assert bad.error.message.startswith("1 of 2 texts cannot be used: [1] contains the special token [CLS]")
    assert "secret" not in bad.error.message
    assert "not valid UTF-8" in broken.error.message
    assert "100 characters; at most 40" in long.error.message
    assert model.is_ready()


def test_callers_that_left_cost_nothing(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("embed_text")
    seen: list[int] = []
    run = model._task.run
    monkeypatch.setattr(model._task, "run", lambda items: (seen.append(len(items)), run(items))[1])
    left, stayed = model.execute([InferenceRequest({"TEXT": rows("edema")}, cancelled=True), texts("edema")])
    assert left.error.code == "cancelled"
    assert stayed.of("EMBEDDING").shape == (1, 16)
    assert seen == [1]


def test_what_nobody_foresaw_fails_one_request_and_readiness(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("embed_text")
    run, check = model._task.run, model._task.check

    def fail(items: list) -> list:
        if any(item["TEXT"][0] == b"edema" for item in items):
            raise RuntimeError("edema at /secret/path")
        return run(items)

    monkeypatch.setattr(model._task, "run", fail)
    bad, good = model.execute([texts("edema"), texts("lungs")])
    assert (bad.error.code, bad.error.message) == ("internal", "internal error")
    assert good.of("EMBEDDING").shape == (1, 16)
    assert backend.Logger.said == ["a request failed, RuntimeError"]
    monkeypatch.setattr(model._task, "check", lambda: fail([{"TEXT": [b"edema"]}]))
    assert model.is_ready()
    for _ in range(3):
        model.execute([texts("edema")])
    assert not model.is_ready()
    monkeypatch.setattr(model._task, "check", check)
    assert model.is_ready()


def test_pictures(bundle: Path, opened: Opener) -> None:
    model = opened("embed_image", max_pixels="20000")
    large = io.BytesIO()
    Image.new("L", (200, 101)).save(large, "PNG")
    found = model.execute(
        [
            InferenceRequest({"IMAGE": rows(film(1), film(2, "JPEG"))}),
            InferenceRequest({"IMAGE": rows(film(3), b"GIF89a")}),
            InferenceRequest({"IMAGE": rows(large.getvalue())}),
            InferenceRequest({"IMAGE": rows(film(4)[:50])}),
        ]
    )
    engine = runtime.load(bundle, provider="cpu")
    expected = engine.image.encode([film(1), film(2, "JPEG")])
    np.testing.assert_allclose(found[0].of("EMBEDDING"), expected, atol=1e-6)
    assert "[1] IMAGE is GIF; PNG, JPEG or DICOM is expected" in found[1].error.message
    assert "20,200 pixels; at most 20,000" in found[2].error.message
    assert found[3].error.code == "invalid argument"


def test_pixels_of_dicom_are_counted_by_its_header(tmp_path: Path) -> None:
    frames = np.zeros((3, 20, 30), dtype=np.uint16)
    data = write_dicom(tmp_path / "a.dcm", frames, NumberOfFrames="3").read_bytes()
    item = {"IMAGE": np.array([data], dtype=object)}
    assert film_of(item, "IMAGE", 1800) == data
    fault = film_of(item, "IMAGE", 1799)
    assert not isinstance(fault, bytes)
    assert "1,800 pixels" in fault.reason


def test_deflated_dicom_is_not_inflated() -> None:
    head = bytes(128) + b"DICM" + b"\x02\0\x10\0UI\x16\x001.2.840.10008.1.2.1.99"
    fault = film_of({"IMAGE": np.array([head + bytes(100)], dtype=object)}, "IMAGE", 10**6)
    assert not isinstance(fault, bytes)
    assert "is deflated DICOM" in fault.reason


def test_tokens_and_pixels_are_what_the_engine_reads(bundle: Path, opened: Opener) -> None:
    engine = runtime.load(bundle, provider="cpu")
    asked = ["No effusion", "small left pleural opacity", "edema"]
    (found,) = opened("tokenize").execute([texts(*asked)])
    input_ids, attention_mask = found.of("input_ids"), found.of("attention_mask")
    assert input_ids.shape == attention_mask.shape == (3, 32)
    for row, mask, expected in zip(input_ids, attention_mask, engine.text.tokenizer.encode(asked), strict=True):
        assert row[mask == 1].tolist() == expected
        assert mask.tolist() == sorted(mask.tolist(), reverse=True)
        assert set(row[mask == 0]) == {engine.text.tokenizer.pad_token_id}
    (long,) = opened("tokenize").execute([texts(" ".join(["left"] * 60), "edema")])
    assert long.of("input_ids").shape == (2, 64)
    pixels, bad = opened("prepare_image").execute(
        [InferenceRequest({"IMAGE": rows(film(1), film(2))}), InferenceRequest({"IMAGE": rows(b"x", film(2))})]
    )
    loaded, _ = engine.image.load([film(1), film(2)])
    np.testing.assert_array_equal(pixels.of("pixel_values"), np.stack([each.pixels for each in loaded]))
    assert "1 of 2 images" in bad.error.message


def test_pictures_and_phrases(bundle: Path, opened: Opener) -> None:
    engine = runtime.load(bundle, provider="cpu")
    phrases = np.array([[b"left effusion", b"small effusion"]], dtype=object)
    good, bad = opened("similarity").execute(
        [
            InferenceRequest({"IMAGE": rows(film(1)), "TEXT": phrases}),
            InferenceRequest({"IMAGE": rows(film(1)), "TEXT": np.array([[b"secret [SEP]"]], dtype=object)}),
        ]
    )
    expected = engine.similarity(film(1), ["left effusion", "small effusion"])
    assert good.of("SIMILARITY") == pytest.approx(expected, abs=1e-6)
    assert "[SEP]" in bad.error.message
    assert "secret" not in bad.error.message
    prompts = {"edema": [["edema"], ["no edema"]]}
    labels, wrong, broken, unequal = opened("classify").execute(
        [
            InferenceRequest({"IMAGE": rows(film(1)), "PROMPTS": rows(json.dumps(prompts))}),
            InferenceRequest({"IMAGE": rows(film(1)), "PROMPTS": rows("no such set")}),
            InferenceRequest({"IMAGE": rows(film(1)), "PROMPTS": rows('{"a"')}),
            InferenceRequest({"IMAGE": rows(film(1), film(2)), "PROMPTS": rows("pneumonia")}),
        ]
    )
    assert json.loads(labels.of("JSON")[0][0]) == pytest.approx(engine.classify(film(1), prompts), abs=1e-6)
    assert wrong.error.code == "invalid argument"
    assert "PROMPTS is not valid JSON" in broken.error.message
    assert unequal.error.message == "The inputs have different numbers of items."


def test_parameters_that_cannot_be_meant(bundle: Path) -> None:
    with pytest.raises(InputError, match="there is no task 'sing'; there are: " + ", ".join(TASKS)):
        open_task(Settings.read(arguments(bundle, task="sing")))
    for given, said in (
        ({"task": "embed_text", "thread": "1"}, "parameters bundle, task, thread; expected are"),
        ({"task": "embed_text", "threads": "0"}, "threads is '0'"),
        ({}, "expected are 'task'"),
    ):
        with pytest.raises(InputError, match=said):
            Settings.read(arguments(bundle, **given))
    assert Settings.read(arguments(bundle, task="tokenize", EXECUTION_ENV_PATH="x")).task == "tokenize"
    relative = json.dumps({"parameters": {"task": {"string_value": "tokenize"}}})
    found = Settings.read({"model_config": relative, "model_repository": "/repository/models/cxr_tokens"})
    assert found.bundle.resolve() == Path("/repository/bundle")
