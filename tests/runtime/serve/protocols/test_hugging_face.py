"""Hugging Face's unmodified `InferenceClient`, and transformers' pipeline, against the engine's own answers."""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from starlette.testclient import TestClient

from runtime.engine import Engine
from runtime.serve.server_state import Server
from tests.conftest import System

MASKED = "There is a [MASK] effusion."
TEXTS = ["There is a left pleural effusion.", "No pneumothorax", "Clear lungs"]
LABELS = ["Edema", "Clear lungs", "Pleural effusion"]


@pytest.fixture
def task(address: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], InferenceClient]:
    """A client of a path of the local server, which needs no hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return lambda path: InferenceClient(model=f"{address}{path}", timeout=60)


@pytest.mark.parametrize(
    "path", ["/fill-mask", "", "/", "/pipeline/fill-mask", "/models/tiny/pipeline/fill-mask", "/models/tiny"]
)
def test_words_for_masks(task: Callable[[str], InferenceClient], engine: Engine, path: str) -> None:
    found = task(path).fill_mask(MASKED, top_k=3)
    want = engine.text.fill_mask(MASKED, top_k=3)
    assert [(each.token, each.token_str, each.sequence) for each in found] == [
        (each["token"], each["token_str"], each["sequence"]) for each in want
    ]
    np.testing.assert_allclose([each.score for each in found], [each["score"] for each in want], atol=1e-6)


def test_targets(task: Callable[[str], InferenceClient], engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A word outside the vocabulary counts for its first piece, as in transformers; no log names it."""
    tokenizer = engine.text.tokenizer
    known, unknown = tokenizer.token(900), f"{tokenizer.token(700)}{tokenizer.token(901)}qx"
    assert tokenizer.find(unknown) is None
    found = task("/fill-mask").fill_mask(MASKED, targets=[known, unknown], top_k=5)
    want = engine.text.fill_mask(MASKED, targets=[known, tokenizer.token(tokenizer.pieces(unknown)[0])])
    assert [each.token for each in found] == [each["token"] for each in want]
    assert unknown not in caplog.text


def test_the_shapes_of_the_pipeline(client: TestClient, tiny: System) -> None:
    """One mask, several masks, a list of one, several texts: nested as transformers nests them."""
    from transformers import FillMaskPipeline

    from tests.oracle import reference_text_model, reference_tokenizer

    oracle = FillMaskPipeline(
        model=reference_text_model(tiny.checkpoint), tokenizer=reference_tokenizer(tiny.checkpoint)
    )
    two = "A [MASK] and [MASK] effusion."
    for inputs in (MASKED, two, [MASKED], [two], [MASKED, two]):
        answer = client.post("/fill-mask", json={"inputs": inputs, "parameters": {"top_k": 2}})
        assert _same(answer.json(), oracle(inputs, top_k=2)), inputs
    assert not _same(client.post("/fill-mask", json={"inputs": MASKED}).json(), oracle(two))


def _same(found: object, want: object) -> bool:
    """Equal nesting, words and ids; scores as near as float32 computed twice comes."""
    if isinstance(want, list):
        return isinstance(found, list) and len(found) == len(want) and all(map(_same, found, want))
    if isinstance(want, dict):
        return isinstance(found, dict) and found.keys() == want.keys() and all(_same(found[k], want[k]) for k in want)
    if isinstance(want, float):
        return found == pytest.approx(want, abs=1e-5)
    return found == want


def test_features(task: Callable[[str], InferenceClient], engine: Engine) -> None:
    client = task("/feature-extraction")
    np.testing.assert_allclose(client.feature_extraction(TEXTS[0]), engine.text.encode(TEXTS[:1]), atol=1e-6)
    found = client.feature_extraction(TEXTS, normalize=False, truncate=True, truncation_direction="left")
    np.testing.assert_allclose(found, engine.text.encode(TEXTS, normalize=False), atol=1e-5)


def test_similar_sentences(task: Callable[[str], InferenceClient], engine: Engine) -> None:
    found = task("/sentence-similarity").sentence_similarity(TEXTS[0], TEXTS[1:])
    want = engine.text.similarity([TEXTS[0]] * 2, TEXTS[1:])
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_labels_of_an_image(task: Callable[[str], InferenceClient], engine: Engine, film: bytes) -> None:
    client = task("/zero-shot-image-classification")
    found = client.zero_shot_image_classification(film, LABELS)
    want = engine.classify(film, LABELS, score="softmax")
    assert {each.label: each.score for each in found} == pytest.approx(want, abs=1e-6)
    assert [each.score for each in found] == sorted(want.values(), reverse=True)
    told = client.zero_shot_image_classification(film, LABELS, hypothesis_template="no {} here")
    want = engine.classify(film, LABELS, score="softmax", templates=["no {} here"])
    assert {each.label: each.score for each in told} == pytest.approx(want, abs=1e-6)


def test_the_bare_url_is_the_task_of_the_server(server: Server, client: TestClient, engine: Engine) -> None:
    server.task = "feature-extraction"
    np.testing.assert_allclose(client.post("/", json={"inputs": "x"}).json(), engine.text.encode("x"), atol=1e-6)


def test_the_client_is_told_what_is_wrong(task: Callable[[str], InferenceClient]) -> None:
    with pytest.raises(HfHubHTTPError, match="has no \\[MASK\\]") as raised:
        task("/fill-mask").fill_mask("There is none.")
    assert raised.value.response.status_code == 422
    with pytest.raises(HfHubHTTPError, match="fill-mask, feature-extraction"):
        task("/pipeline/summarization").fill_mask(MASKED)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"candidate_labels": ["a"]}, "candidate_labels"),
        ({"candidate_labels": ["a", "a"]}, "candidate_labels"),
        ({}, "candidate_labels"),
        ({"candidate_labels": ["a", "b"], "hypothesis_template": "none"}, "hypothesis_template"),
        ({"candidate_labels": [f"label {each}" for each in range(3000)]}, "prompts"),
    ],
)
def test_labels_that_cannot_be_used(client: TestClient, film: bytes, parameters: dict, named: str) -> None:
    body = {"inputs": base64.b64encode(film).decode(), "parameters": parameters}
    answer = client.post("/zero-shot-image-classification", json=body)
    assert (answer.status_code, named in answer.json()["error"]) == (422, True), answer.text


def test_more_words_than_are_given(client: TestClient) -> None:
    answer = client.post("/fill-mask", json={"inputs": [MASKED] * 200, "parameters": {"top_k": 100}})
    assert (answer.status_code, "20,000" in answer.json()["error"]) == (422, True)


def test_parameters_that_are_no_object_are_refused(client: TestClient) -> None:
    asked = {"inputs": "effusion", "parameters": ["normalize"]}
    assert client.post("/pipeline/feature-extraction", json=asked).status_code == 422
    assert client.post("/pipeline/feature-extraction", json={**asked, "parameters": None}).status_code == 200
