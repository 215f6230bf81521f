"""KServe's protocol with Triton's unmodified client, binary and in JSON, and by the words of the specification."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
from starlette.testclient import TestClient
from tritonclient.utils import InferenceServerException

from runtime.engine import Engine
from runtime.serve.server_state import Server

TEXTS = ["There is a left pleural effusion.", "No pneumothorax", "Clear lungs"]
MASKED = "There is a [MASK] effusion."


@pytest.fixture
def api(address: str) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(address.removeprefix("http://"))
    yield client
    client.close()


def column(texts: list) -> np.ndarray:
    return np.array(texts, dtype=object).reshape(-1, 1)


def tensor(name: str, values: np.ndarray, datatype: str, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def test_server_and_models(api: triton.InferenceServerClient) -> None:
    assert api.is_server_live()
    assert api.is_server_ready()
    about = api.get_server_metadata()
    assert about["extensions"] == ["binary_tensor_data"]
    assert about["models"] == ["text", "image", "fill_mask", "tiny.text", "tiny.image", "tiny.fill_mask"]
    for name in about["models"]:
        assert api.is_model_ready(name)
        assert api.get_model_metadata(name)["name"] == name
    described = api.get_model_metadata("text", "1")
    assert described["inputs"] == [{"name": "TEXT", "datatype": "BYTES", "shape": [-1, 1]}]
    assert described["outputs"] == [{"name": "EMBEDDING", "datatype": "FP32", "shape": [-1, 128]}]
    assert not api.is_model_ready("missing")
    assert not api.is_model_ready("text", "2")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_texts(api: triton.InferenceServerClient, engine: Engine, binary: bool, compression: str | None) -> None:
    inputs = [tensor("TEXT", column(TEXTS), "BYTES", binary)]
    outputs = [triton.InferRequestedOutput("EMBEDDING", binary_data=binary)]
    found = api.infer("text", inputs, "1", outputs, request_id="7", request_compression_algorithm=compression)
    np.testing.assert_allclose(found.as_numpy("EMBEDDING"), engine.text.encode(TEXTS), atol=1e-6)
    assert (found.get_response()["id"], found.get_response()["model_version"]) == ("7", "1")


def test_as_the_client_asks_by_itself(api: triton.InferenceServerClient, engine: Engine) -> None:
    """Without outputs it wants them binary."""
    found = api.infer("tiny.text", [tensor("TEXT", column(TEXTS), "BYTES")], parameters={"normalize": False})
    assert found.get_output("EMBEDDING")["parameters"] == {"binary_data_size": 3 * 128 * 4}
    np.testing.assert_allclose(found.as_numpy("EMBEDDING"), engine.text.encode(TEXTS, normalize=False), atol=1e-5)


def test_films_without_base64(api: triton.InferenceServerClient, engine: Engine, films: list[bytes]) -> None:
    found = api.infer("image", [tensor("IMAGE", column(films), "BYTES")])
    np.testing.assert_allclose(found.as_numpy("EMBEDDING"), engine.image.encode(list(films)), atol=1e-6)


def test_prepared_pixels(api: triton.InferenceServerClient, engine: Engine, films: list[bytes]) -> None:
    loaded, _ = engine.image.load(list(films))
    pixels = np.stack([each.pixels for each in loaded])
    described = {each["name"]: each for each in api.get_model_metadata("image")["inputs"]}
    assert described["PIXELS"] == {"name": "PIXELS", "datatype": "UINT8", "shape": [-1, 96, 96]}
    found = api.infer("image", [tensor("PIXELS", pixels, "UINT8")]).as_numpy("EMBEDDING")
    np.testing.assert_allclose(found, engine.image.encode(list(films)), atol=1e-6)
    with pytest.raises(InferenceServerException, match="-1, 96, 96"):
        api.infer("image", [tensor("PIXELS", pixels[:, :50], "UINT8")])
    both = [tensor("PIXELS", pixels, "UINT8"), tensor("IMAGE", column(films), "BYTES")]
    with pytest.raises(InferenceServerException, match="IMAGE or PIXELS"):
        api.infer("image", both)


def test_films_in_json(client: TestClient, engine: Engine, film: bytes) -> None:
    data = [base64.b64encode(film).decode()]
    given = {"name": "IMAGE", "shape": [1], "datatype": "BYTES", "data": data}
    answer = client.post("/v2/models/image/infer", json={"inputs": [given]}).json()
    np.testing.assert_allclose(answer["outputs"][0]["data"], engine.image.encode([film])[0], atol=1e-6)


def test_words_for_masks(api: triton.InferenceServerClient, engine: Engine) -> None:
    inputs = [tensor("TEXT", column([MASKED, MASKED]), "BYTES"), tensor("TOP_K", np.array([2], np.int32), "INT32")]
    found = api.infer("fill_mask", inputs).as_numpy("JSON")
    assert found.shape == (2, 1)
    want = engine.text.fill_mask(MASKED, top_k=2)
    for each in found[:, 0]:
        assert [word["token"] for word in json.loads(each)] == [word["token"] for word in want]
    targets = tensor("TARGETS", np.array([engine.text.tokenizer.token(900)], dtype=object), "BYTES")
    found = api.infer("fill_mask", [inputs[0], targets]).as_numpy("JSON")
    assert [word["token"] for word in json.loads(found[0, 0])] == [900]


@pytest.mark.parametrize(
    ("asked", "change", "status", "said"),
    [
        ("missing", {}, 404, "no such model"),
        ("text", {"name": "OTHER"}, 400, "TEXT is missing"),
        ("text", {"datatype": "FP32", "data": [0.5]}, 400, "BYTES of shape"),
        ("text", {"datatype": "FP99"}, 400, "BYTES, UINT8"),
        ("text", {"shape": [2, 1]}, 400, "as many items"),
        ("text", {"shape": [-1, 1]}, 400, "numbers from 0"),
        ("text", {"shape": [1 << 20, 1 << 20]}, 422, "batch size"),
        ("text", {"shape": [0, 1], "data": []}, 400, "cannot be empty"),
        ("text", {"data": [5]}, 400, "no text"),
        ("text", {"parameters": {"binary_data_size": 9}}, 400, "binary_data_size"),
        ("text", {"parameters": {"shared_memory_region": "x"}}, 400, "shared memory"),
        ("image", {"name": "IMAGE", "data": ["https://x/y"]}, 422, "fetches no URLs"),
        ("fill_mask", {}, 422, "has no [MASK]"),
    ],
)
def test_refusals(client: TestClient, asked: str, change: dict, status: int, said: str) -> None:
    given = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["a"], **change}
    answer = client.post(f"/v2/models/{asked}/infer", json={"inputs": [given]})
    assert (answer.status_code, set(answer.json())) == (status, {"error"}), answer.text
    assert said in answer.json()["error"]


def test_the_client_is_told(api: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="no such model") as raised:
        api.infer("missing", [tensor("TEXT", column(TEXTS), "BYTES")])
    assert raised.value.status() == "404"
    with pytest.raises(InferenceServerException, match="Item 1 cannot"):
        api.infer("text", [tensor("TEXT", column(["a", "[CLS]"]), "BYTES")])


def binary_body(content: object, tail: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(content).encode()
    return text + tail, {"Inference-Header-Content-Length": str(len(text))}


@pytest.mark.parametrize(
    ("tail", "size"),
    [
        (struct.pack("<I", 5) + b"abc", 7),  # cut off
        (struct.pack("<I", 0xFFFFFFFF), 4),  # of a length that is not there
        (struct.pack("<I", 1) + b"ab", 6),  # a byte too many
        (struct.pack("<I", 1) + b"a" + b"rest", 5),  # bytes of no tensor
        (b"\0", 1),
        (struct.pack("<I", 1) + b"\xff", 5),  # no UTF-8
    ],
)
def test_binary_tensors_that_are_none(client: TestClient, tail: bytes, size: int) -> None:
    given = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    body, headers = binary_body({"inputs": [given]}, tail)
    answer = client.post("/v2/models/text/infer", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    for length in ("0", "-1", "9" * 5000, "x", str(len(body) + 1)):
        wrong = {"Inference-Header-Content-Length": length}
        assert client.post("/v2/models/text/infer", content=body, headers=wrong).status_code == 400
    good, headers = binary_body(
        {"inputs": [{**given, "parameters": {"binary_data_size": 5}}]}, struct.pack("<I", 1) + b"a"
    )
    assert client.post("/v2/models/text/infer", content=good, headers=headers).status_code == 200


def test_what_inflates_without_end(client: TestClient, server: Server) -> None:
    bomb = gzip.compress(b" " * (server.limits.json_bytes + 1))
    assert len(bomb) < 5000
    sent = {"content": bomb, "headers": {"content-encoding": "gzip"}}
    assert client.post("/v2/models/text/infer", **sent).status_code == 413
    cut = {"content": bomb[:50], "headers": {"content-encoding": "gzip"}}
    assert client.post("/v2/models/text/infer", **cut).status_code == 400
    other = {"content": bomb, "headers": {"content-encoding": "br"}}
    assert client.post("/v2/models/text/infer", **other).status_code == 415


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/text/load"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/models/text/config"),
        ("GET", "/v2/models/text/versions/2"),
        ("GET", "/v2/models/other.secret.text"),
    ],
)
def test_nothing_else_is_there(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, set(answer.json())) == (404, {"error"})
