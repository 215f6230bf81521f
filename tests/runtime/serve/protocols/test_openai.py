"""OpenAI's unmodified client against the engine's own answers: texts, images in three dialects, errors by class."""

from __future__ import annotations

import base64

import numpy as np
import openai
import pytest
from starlette.testclient import TestClient

from runtime.engine import Engine
from tests.runtime.serve.protocols.direct import DirectModel

TEXTS = ["There is a left pleural effusion.", "No pneumothorax", "Clear lungs"]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def api(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60)


def rows(answer: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return np.array([each.embedding for each in answer.data], np.float32)


def test_texts_as_the_client_asks_by_itself(api: openai.OpenAI, engine: Engine) -> None:
    answer = api.embeddings.create(model="tiny", input=TEXTS)
    np.testing.assert_allclose(rows(answer), engine.text.encode(TEXTS), atol=1e-6)
    tokens = sum(map(len, engine.text.tokenizer.encode(TEXTS)))
    assert (answer.object, answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == (
        *("list", "tiny"),
        *(tokens, tokens),
    )


def test_both_formats_are_the_same_numbers(api: openai.OpenAI, engine: Engine) -> None:
    text = TEXTS[0]
    as_float = api.embeddings.create(model="tiny", input=text, encoding_format="float", dimensions=128, user="u")
    in_base64 = api.embeddings.create(model="tiny", input=text, encoding_format="base64")
    decoded = np.frombuffer(base64.b64decode(in_base64.data[0].embedding), "<f4")
    np.testing.assert_array_equal(decoded, rows(as_float)[0])
    np.testing.assert_allclose(decoded, engine.text.encode(text)[0], atol=1e-6)


def test_a_base_url_without_version(address: str, engine: Engine) -> None:
    api = openai.OpenAI(base_url=address, api_key="none")
    np.testing.assert_allclose(rows(api.embeddings.create(model="", input=TEXTS)), engine.text.encode(TEXTS), atol=1e-6)


def test_models(api: openai.OpenAI) -> None:
    listed = api.models.list().data
    assert [(each.id, each.object, each.owned_by) for each in listed] == [("tiny", "model", "cxr-engine")]
    assert api.models.retrieve("tiny") == listed[0]
    assert listed[0].created > 1_700_000_000
    with pytest.raises(openai.NotFoundError) as raised:
        api.models.retrieve("missing/model")
    assert raised.value.type == "invalid_request_error"


def test_images_in_three_dialects(api: openai.OpenAI, engine: Engine, films: list[bytes]) -> None:
    want = engine.image.encode(list(films))
    as_urls = [f"data:image/png;base64,{b64(film)}" for film in films]
    infinity = api.embeddings.create(model="tiny", input=as_urls, extra_body={"modality": "image"})
    np.testing.assert_allclose(rows(infinity), want, atol=1e-6)
    items = [{"image": b64(films[0])}, {"text": TEXTS[0]}, {"bytes": b64(films[1])}, TEXTS[1], {"url": as_urls[2]}]
    jina = api.embeddings.create(model="tiny", input=items)  # type: ignore[arg-type]
    texts = engine.text.encode(TEXTS[:2])
    np.testing.assert_allclose(rows(jina), [want[0], texts[0], want[1], texts[1], want[2]], atol=1e-6)
    content = [{"type": "image_url", "image_url": {"url": as_urls[1]}}, {"type": "text", "text": "Represent it."}]
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}], "encoding_format": "float"}
    vllm = api.post("/embeddings", cast_to=openai.types.CreateEmbeddingResponse, body=body)
    np.testing.assert_allclose(rows(vllm), want[1:2], atol=1e-6)
    body["messages"] = [{"role": "user", "content": TEXTS[0]}]
    vllm = api.post("/embeddings", cast_to=openai.types.CreateEmbeddingResponse, body=body)
    np.testing.assert_allclose(rows(vllm), texts[:1], atol=1e-6)


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused(api: openai.OpenAI, tokens: list) -> None:
    with pytest.raises(openai.BadRequestError, match="token ids") as raised:
        api.embeddings.create(model="tiny", input=tokens)
    assert raised.value.param == "input"


def test_errors_have_the_classes_of_the_client(api: openai.OpenAI, address: str) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        api.embeddings.create(model="missing", input="x")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.UnprocessableEntityError, match="128 dimensions"):
        api.embeddings.create(model="tiny", input="x", dimensions=64)
    with pytest.raises(openai.BadRequestError, match="cannot be empty"):
        api.embeddings.create(model="tiny", input=[])
    with pytest.raises(openai.UnprocessableEntityError, match="fetches no URLs"):
        api.embeddings.create(model="tiny", input="https://example.org/x.png", extra_body={"modality": "image"})
    with pytest.raises(openai.UnprocessableEntityError, match="special token") as special:
        api.embeddings.create(model="tiny", input=["a", "[CLS]", "[SEP]"])
    assert [each["index"] for each in special.value.body["faults"]] == [1, 2]


@pytest.mark.parametrize("source", [{"input": "x"}, {"messages": [{"content": "x"}]}])
@pytest.mark.parametrize("modality", [["image"], [None], "sound", 1])
def test_a_modality_that_is_none_is_refused_whether_it_is_needed_or_not(client, model, source, modality) -> None:
    answer = client.post("/v1/embeddings", json={**source, "modality": modality})
    assert answer.status_code == 422
    assert "modality" in answer.json()["error"]["message"]


def test_what_is_not_to_be_tried_again(client: TestClient, model: DirectModel) -> None:
    model.fails = ValueError("secret")
    answer = client.post("/v1/embeddings", json={"input": "x"})
    assert (answer.status_code, answer.headers["x-should-retry"]) == (500, "false")
    assert answer.json()["error"] == {
        **{"message": "internal error", "type": "server_error", "param": None, "code": None},
        "request_id": "r-1",
    }


@pytest.mark.parametrize("name", ["", "%0A"])
def test_a_model_without_a_name_is_none(client: TestClient, name: str) -> None:
    assert client.get(f"/v1/models/{name}").status_code == 404
