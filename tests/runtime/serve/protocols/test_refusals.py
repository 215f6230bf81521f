"""What is refused: by which code, in which form, and never with a word of what was sent."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

import runtime
from runtime.errors import BundleError, Fault, InputError, MissingExtraError
from runtime.serve.app import build_app
from runtime.serve.protocols.openapi import document
from runtime.serve.request_errors import RequestError
from runtime.serve.server_state import Server
from tests.conftest import System
from tests.runtime.serve.protocols.direct import DirectModel, DirectModels

MARKER = "ZQXMARKER"


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/embed", {"error", "error_type", "request_id"}),
        ("/fill-mask", {"error", "error_type", "request_id"}),
        ("/classify", {"error", "error_type", "request_id"}),
        ("/v1/embeddings", {"error"}),
        ("/v2/models/text/infer", {"error"}),
    ],
)
def test_each_protocol_has_its_form(client: TestClient, path: str, keys: set[str]) -> None:
    for answer, status in (
        (client.post(path, content=b"{no json", headers={"content-type": "application/json"}), 400),
        (client.get(path), 405),
        (client.get(f"{path}/missing"), 404),
        (client.post(path, content=b"[" * 2000, headers={"content-type": "application/json"}), 400),
    ):
        assert (answer.status_code, set(answer.json())) == (status, keys), answer.text
        assert answer.headers["content-type"] == "application/json"
        if "v1" in path:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        else:
            assert isinstance(answer.json()["error"], str)
    assert client.get(path).headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/embed", "/embed/image", "/v1/embeddings", "/fill-mask", "/similarity"])
def test_media_types(client: TestClient, path: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/pdf", "image/gif"):
        answer = client.post(path, content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415, (kind, answer.text)
        assert "application/json" in answer.headers["accept-post"]
    packed = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = client.post(path, content=b"x", headers=packed)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")


def test_json_is_json_whatever_its_character_set_is_called(client: TestClient) -> None:
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        answer = client.post("/embed", content=b'{"inputs": "x"}', headers={"content-type": kind})
        assert answer.status_code == 200


def test_large_bodies(server: Server, client: TestClient, film: bytes) -> None:
    server.limits = replace(server.limits, json_bytes=1000, image_bytes=len(film) * 2)
    long = {"inputs": "x" * 1000}
    assert client.post("/embed", json=long).status_code == 413
    # Texts alone may not have what images may.
    answer = client.post("/v1/embeddings", json={"input": ["x" * 1000]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")
    image = {"image": base64.b64encode(film).decode()}
    assert client.post("/embed/image", json=image).status_code == 200
    assert client.post("/embed/image", content=film * 3, headers={"content-type": "image/png"}).status_code == 413
    three = [("image", ("x.png", film))] * 3
    assert client.post("/embed/image", files=three).status_code == 413
    text = {"data": {"prompts": "x" * 1001}, "files": {"image": ("x.png", film)}}
    assert client.post("/classify", **text).status_code == 413


def test_a_body_without_end_is_given_up_early(server: Server, client: TestClient) -> None:
    server.limits = replace(server.limits, json_bytes=1000)
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 500

    assert client.post("/embed", content=endless(), headers={"content-type": "application/json"}).status_code == 413
    assert sent <= 100


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RequestError("Overloaded", "Busy.", retry_after=1.5), 429, "Busy."),
        (RequestError("Unhealthy", "Stopping."), 503, "Stopping."),
        (RequestError("Timeout", "Late."), 504, "Late."),
        (ValueError(MARKER), 500, "internal error"),
        (MemoryError(MARKER), 500, "internal error"),
        (BundleError(f"/{MARKER}/bundle has none"), 422, "GET /info"),
        (MissingExtraError(MARKER, "pydicom", "dicom"), 422, "optional package"),
        (InputError(f"There is no 'x' in '{MARKER}'."), 422, "There is no"),
        (InputError(MARKER, [Fault(0, MARKER, "is too long")]), 422, "Item 0 cannot be used: is too long."),
        (InputError("", [Fault(1, "", f'"{MARKER}\'" is "given" twice')]), 422, "Item 1 cannot be used: … twice."),
        (InputError(f"The set “{MARKER}\n{MARKER}”"), 422, "The set …"),
    ],
)
def test_whatever_a_model_raises(
    client: TestClient, model: DirectModel, error: Exception, status: int, said: str
) -> None:
    model.fails = error
    requests: list[tuple[str, Any]] = [
        ("/embed", {"inputs": "x"}),
        ("/v1/embeddings", {"input": "x"}),
        ("/v2/models/text/infer", {"inputs": [{"name": "TEXT", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}),
    ]
    for path, body in requests:
        answer = client.post(path, json=body)
        assert answer.status_code == status, answer.text
        told = answer.json()["error"]
        assert said in (told["message"] if isinstance(told, dict) else told)
        assert MARKER not in answer.text + str(answer.headers)
        if status == 500:
            assert '"request_id":"r-1"' in answer.text
    if status == 429:
        assert answer.headers["retry-after"] == "2"


def bodies(film: str) -> Iterator[tuple[str, Any]]:
    """A request for each path that has an example, and each of its texts in turn replaced by what cannot be used."""
    for path, methods in document()["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        if not content:
            continue
        filled = path.replace("{task}", "fill-mask").replace("{model}", "tiny").replace("{version}", "1")
        filled = filled.replace("/v2/models/tiny", "/v2/models/text")
        example = json.loads(json.dumps(content["application/json"]["example"]).replace("iVBORw0KGgo…", film))
        for wrong in (MARKER, f"[CLS] {MARKER}", f"'{MARKER}", {MARKER: [MARKER]}, [MARKER, 5], f"data:{MARKER},x"):
            yield from ((filled, changed) for changed in replaced(example, wrong))
        yield filled, {MARKER: MARKER}
        yield filled, [MARKER]
        for name in ("model", "prompt_name", "templates", "labels", "score", "rule", "parameters", "targets"):
            yield filled, {**example, name: MARKER}
            yield filled, {**example, name: [MARKER, MARKER]}
        yield filled, {**example, "prompts": {MARKER: [[MARKER], [MARKER]], f"{MARKER} ": [[f"no {MARKER}"], "x"]}}
        yield filled, {**example, "prompts": {MARKER: ["!"]}, "score": "softmax"}
        yield filled, {**example, "parameters": {"targets": [MARKER], "candidate_labels": [MARKER, MARKER]}}


def replaced(value: Any, wrong: Any) -> Iterator[Any]:
    """The value with one of its leaves, or one of its lists and objects, replaced."""
    yield wrong
    if isinstance(value, dict):
        for name, each in value.items():
            yield from ({**value, name: changed} for changed in replaced(each, wrong))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from ([*value[:index], changed, *value[index + 1 :]] for changed in replaced(each, wrong))


def test_nothing_that_was_sent_is_told_or_logged(
    scheduled: Server, film: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = TestClient(build_app(scheduled))
    caplog.set_level(logging.DEBUG)
    failed = 0
    for path, body in bodies(base64.b64encode(film).decode()):
        answer = client.post(path, json=body)
        assert answer.status_code < 500, (path, body, answer.text)
        if answer.status_code >= 400:
            failed += 1
            assert MARKER.lower() not in (answer.text + str(answer.headers)).lower(), (path, body)
    assert failed > 200
    form = {"data": {"phrases": MARKER, MARKER: MARKER}, "files": {"image": (MARKER, MARKER.encode())}}
    for answer in (
        client.post("/ground", **form),
        client.post(f"/{MARKER}"),
        client.post(f"/pipeline/{MARKER}", json={}),
        client.post(f"/models/{MARKER}/pipeline/fill-mask", json={"inputs": "x"}),
        client.post("/embed", content=MARKER, headers={"content-type": "application/json"}),
        client.post("/embed", content="{}", headers={"content-type": MARKER}),
        client.post("/embed/image", content=MARKER, headers={"content-type": "image/png"}),
        client.get(f"/indexes/{MARKER}/pictures/1"),
        client.get(f"/v1/models/{MARKER}"),
        client.get(f"/v2/models/{MARKER}"),
    ):
        assert 400 <= answer.status_code < 500, answer.text
        assert MARKER.lower() not in (answer.text + str(answer.headers)).lower()
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "asyncio"))]
    assert not [message for message in ours if MARKER in message]


def test_a_bundle_of_texts_says_what_it_can(tiny: System) -> None:
    engine = runtime.load(tiny.bundle, provider="cpu", parts=["text"])
    client = TestClient(build_app(Server(DirectModels({"texts": DirectModel("texts", engine)}))))
    body = {"image": "AAAA", "images": "AAAA", "texts": "x", "labels": ["a", "b"], "phrases": "x"}
    for path in ("/embed/image", "/similarity", "/classify", "/ground", "/picture"):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.json()["error_type"]) == (422, "Validation"), answer.text
        assert "What it can: text, mask" in answer.json()["error"]
    assert client.post("/embed/text", json=body).status_code == 200
    assert client.get("/v2/models/image").status_code == 404
    assert client.get("/info").json()["models"][0]["capabilities"]["joint"] is False
