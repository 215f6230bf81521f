"""What every request gets: an id, a deadline, headers, an answer to every error, a line in the log."""

from __future__ import annotations

import json
import re

import pytest
from starlette.testclient import TestClient

from runtime.serve.limits import Limits
from tests.runtime.serve.operation.fakes import logged, make

_MARK = "Mrs Marker has effusion"


def test_request_ids() -> None:
    client = TestClient(make()[0])
    assert client.post("/length", headers={"X-Request-Id": "a.B-9_"}).headers["x-request-id"] == "a.B-9_"
    made = [
        client.post("/length", headers=headers).headers["x-request-id"] for headers in ({}, {}, {"X-Request-Id": "a b"})
    ]
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in made)
    assert len(set(made)) == 3
    assert client.get("/nothing", headers={"X-Request-Id": "i" * 65}).headers["x-request-id"] != "i" * 65


def test_headers_of_every_answer() -> None:
    client = TestClient(make()[0], raise_server_exceptions=False)
    for answer in (client.post("/length"), client.get("/nothing"), client.get("/health"), client.post("/fail")):
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


@pytest.mark.parametrize(
    ("kind", "status"),
    [("Overloaded", 429), ("TooLarge", 413), ("Unhealthy", 503), ("Timeout", 504), ("Unauthorized", 401)],
)
def test_refusals(kind: str, status: int) -> None:
    answer = TestClient(make()[0]).post("/refuse", content=kind, headers={"X-Request-Id": "r"})
    assert answer.status_code == status
    assert answer.headers["retry-after"] == "8"
    body = answer.json()
    assert (body["error"], body["error_type"], body["request_id"]) == ("refused", kind, "r")


def test_unknown_paths_and_methods() -> None:
    client = TestClient(make()[0])
    answer = client.get("/nothing/")
    assert (answer.status_code, answer.json()["error_type"]) == (404, "NotFound")
    assert client.post("/length/", follow_redirects=False).status_code == 404
    answer = client.get("/length")
    assert (answer.status_code, answer.json()["error_type"]) == (405, "MethodNotAllowed")
    assert answer.headers["allow"] == "POST"


def test_what_nobody_foresaw_says_nothing_of_itself() -> None:
    answer = TestClient(make()[0]).post("/fail", content=_MARK)
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "internal error",
        "error_type": "Backend",
        "request_id": answer.headers["x-request-id"],
    }


@pytest.mark.parametrize("name", ["X-Request-Timeout", "x-request-timeout-seconds"])
def test_deadlines(name: str) -> None:
    client = TestClient(make(Limits(request_seconds=50))[0])
    assert 49 < client.post("/length").json()["remaining"] <= 50
    assert 2 < client.post("/length", headers={name: "3.5"}).json()["remaining"] <= 3.5
    assert 49 < client.post("/length", headers={name: "inf"}).json()["remaining"] <= 50
    for wrong in ("0", "-1", "soon", "nan", ""):
        answer = client.post("/length", headers={name: wrong})
        assert (answer.status_code, answer.json()["error_type"]) == (400, "BadRequest"), wrong


def test_a_request_that_hangs_ends_after_its_deadline() -> None:
    answer = TestClient(make()[0]).post("/sleep", content="30", headers={"X-Request-Timeout": "0.1"})
    assert (answer.status_code, answer.json()["error_type"]) == (504, "Timeout")
    assert TestClient(make()[0]).post("/sleep", content="0.01", headers={"X-Request-Timeout": "5"}).text == "slept"


@pytest.mark.parametrize("as_json", [True, False])
def test_log_lines_never_quote_a_request(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    client = TestClient(make()[0])
    with logged(as_json):
        for path in ("/length", "/fail", "/models/Marker/infer", "/Marker", "/refuse"):
            client.post(
                f"{path}?patient=Marker",
                content=_MARK,
                headers={"X-Patient": "Marker", "Authorization": "Bearer Marker", "X-Request-Id": "id-1"},
            )
        client.get("/health")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 6, lines
    assert all("id-1" in line for line in lines)
    assert "Marker" not in "".join(lines)
    assert not any("/health" in line for line in lines), "probes fill no log"
    if not as_json:
        return
    logs = [json.loads(line) for line in lines]
    requests = [each for each in logs if each["event"] == "request"]
    paths = [each["path"] for each in requests]
    assert paths == ["/length", "/fail", "/models/{name}/infer", "other", "/refuse"]
    assert [each["status"] for each in requests] == [200, 500, 200, 404, 500]
    assert {"items": 2, "tokens": 10}.items() <= requests[0].items()
    failure, *_ = [each for each in logs if each["event"] == "a request failed"]
    assert failure["error"] == "ValueError"
    assert any("fakes.py" in place for place in failure["raised"]), "where it was raised is said"
