"""text-embeddings-inference's requests and answers: the shapes of its OpenAPI document, the values of the engine."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.engine import Engine
from runtime.serve.request_errors import RequestError
from tests.conftest import System
from tests.runtime.serve.protocols.direct import DirectModel

TEXTS = ["There is a left pleural effusion.", "No pneumothorax", "Clear lungs!"]
# Its document's `Info`: name → type; those with ? may be null.
INFO = {
    **{"model_id": str, "model_sha?": str, "model_dtype": str, "served_model_name": str, "model_type": dict},
    **{"max_concurrent_requests": int, "max_input_length": int, "max_batch_tokens": int, "max_batch_requests?": int},
    **{"max_client_batch_size": int, "auto_truncate": bool, "tokenization_workers": int, "version": str},
    **{"sha?": str, "docker_label?": str},
}
TIMES = ("compute-time", "total-time", "tokenization-time", "queue-time", "inference-time", "compute-characters")


def test_texts_and_token_ids(client: TestClient, engine: Engine) -> None:
    ids = engine.text.tokenizer.encode(TEXTS)
    want = engine.text.encode(TEXTS)
    for inputs, rows in (
        (TEXTS, want),
        (TEXTS[0], want[:1]),  # one text is a list of one vector
        (ids[1], want[1:2]),  # a flat list of ids is one text
        (ids, want),
        ([TEXTS[0], ids[1], TEXTS[2]], want),
    ):
        answer = client.post("/embed", json={"inputs": inputs})
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json(), rows, atol=1e-6)


def test_what_it_cost(client: TestClient, engine: Engine) -> None:
    headers = client.post("/embed", json={"inputs": TEXTS}).headers
    assert headers["x-compute-type"] == "cpu+optimized"
    assert headers["x-compute-characters"] == str(sum(map(len, TEXTS)))
    assert all(headers[f"x-{each}"].isdigit() for each in TIMES)


def test_cutting(client: TestClient, model: DirectModel) -> None:
    for body, want in (
        ({}, (None, False)),
        ({"truncate": True, "truncation_direction": "Left"}, (True, True)),
        ({"truncate": False, "truncation_direction": "right"}, (False, False)),
    ):
        assert client.post("/embed", json={"inputs": "x", **body}).status_code == 200
        assert (model.asked[-1]["truncate"], model.asked[-1]["from_left"]) == want


def test_similarity(client: TestClient, engine: Engine) -> None:
    body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}, "parameters": None}
    want = engine.text.similarity([TEXTS[0]] * 2, TEXTS[1:])
    np.testing.assert_allclose(client.post("/similarity", json=body).json(), want, atol=1e-6)


def test_tokens(client: TestClient, tiny: System, engine: Engine) -> None:
    """As transformers' tokenizer splits what is left of the text once its last "!" is stripped."""
    from tests.oracle import reference_tokenizer

    oracle = reference_tokenizer(tiny.checkpoint)
    found = client.post("/tokenize", json={"inputs": TEXTS}).json()
    for text, tokens in zip((TEXTS[0].rstrip("."), TEXTS[1], TEXTS[2].rstrip("!")), found, strict=True):
        encoded = oracle(text, return_offsets_mapping=True)
        assert [each["id"] for each in tokens] == encoded["input_ids"]
        assert [each["special"] for each in tokens] == [True, *[False] * (len(tokens) - 2), True]
        assert (tokens[0]["text"], tokens[-1]["text"], tokens[0]["start"]) == ("[CLS]", "[SEP]", None)
        for each, (start, stop) in list(zip(tokens, encoded["offset_mapping"], strict=True))[1:-1]:
            assert (each["start"], each["stop"], each["text"]) == (start, stop, text[start:stop])
    bare = client.post("/tokenize", json={"inputs": TEXTS[0], "add_special_tokens": False}).json()
    assert bare == [found[0][1:-1]]
    ids = [[each["id"] for each in tokens] for tokens in found]
    want = [oracle.decode(row, skip_special_tokens=True) for row in ids]
    assert client.post("/decode", json={"ids": ids}).json() == want
    whole = client.post("/decode", json={"ids": ids[0], "skip_special_tokens": False}).json()
    assert whole == [oracle.decode(ids[0])]


def test_info(client: TestClient) -> None:
    info = client.get("/info").json()
    for name, kind in INFO.items():
        value = info[name.rstrip("?")]
        assert isinstance(value, kind) or (name.endswith("?") and value is None), name
    assert info["model_type"] == {"embedding": {"pooling": "cls"}}
    assert [each["name"] for each in info["models"]] == ["tiny", "other"]
    model = info["models"][0]
    assert model["capabilities"] == dict.fromkeys(("text", "image", "joint", "mask", "patches"), True)
    assert (model["mask_token"], model["score"], model["random_weights"]) == ("[MASK]", "pairs", True)
    assert {"pneumonia", "chexpert"} <= set(model["prompt_sets"])
    assert info["task"] == "fill-mask"


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "said"),
    [
        ("/embed", {"inputs": []}, 400, "Empty", "`inputs` cannot be empty"),
        ("/embed", {"inputs": ["[CLS]"]}, 422, "Validation", "special token"),
        ("/embed", {}, 422, "Validation", "`inputs` is missing"),
        ("/embed", {"inputs": 5}, 422, "Validation", "`inputs` is a number"),
        ("/embed", {"inputs": ["a", 5, None]}, 422, "Validation", "2 of 3 items"),
        ("/embed", {"inputs": [5000]}, 422, "Validation", "0 to 999"),
        ("/embed", {"inputs": [[1, 2], [-1]]}, 422, "Validation", "1 of 2"),
        ("/embed", {"inputs": [[1] * 600]}, 422, "Validation", "1 to 512"),
        ("/embed", {"inputs": "x", "dimensions": 64}, 422, "Validation", "128 dimensions"),
        ("/embed", {"inputs": "x", "normalize": "yes"}, 422, "Validation", "`normalize` is a text"),
        ("/embed", {"inputs": "x", "prompt_name": "query"}, 422, "Validation", "it has none"),
        ("/embed", {"inputs": "x", "truncation_direction": "up"}, 422, "Validation", "right, left"),
        ("/embed", [1], 422, "Validation", "a list"),
        ("/embed_all", {"inputs": "x"}, 422, "Validation", "POST /embed"),
        ("/similarity", {"inputs": {"sentences": ["x"]}}, 422, "Validation", "`inputs.source_sentence` is missing"),
        ("/similarity", {"inputs": {"source_sentence": "x", "sentences": []}}, 400, "Empty", "`inputs.sentences`"),
        ("/tokenize", {"inputs": ["x" * 20_001]}, 422, "Validation", "too long"),
        ("/decode", {"ids": [1_000_000]}, 422, "Validation", "0 to 999"),
        ("/decode", {"ids": [True]}, 422, "Validation", "token ids"),
    ],
)
def test_refusals(client: TestClient, path: str, body: object, status: int, kind: str, said: str) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind), answer.text
    assert said in answer.json()["error"]
    assert answer.json()["request_id"] == "r-1"


def test_a_deadline_that_passed(client: TestClient, model: DirectModel) -> None:
    model.fails = RequestError("Timeout", "Too late.")
    answer = client.post("/embed", json={"inputs": "x"})
    assert (answer.status_code, answer.json()["error_type"]) == (504, "Timeout")
