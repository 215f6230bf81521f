"""Who is let in."""

from __future__ import annotations

import hmac
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from runtime.errors import InputError
from runtime.serve.app import build_app
from runtime.serve.operation import keys as keys_module
from runtime.serve.operation.gate import is_loopback
from runtime.serve.operation.keys import Keys
from runtime.serve.operation.sockets import loopback_only
from runtime.serve.server_state import Server
from tests.runtime.serve.operation.fakes import Models, make

_OPEN = {"/health", "/ping", "/livez", "/ready", "/readyz"}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text("# of the reading room\n\nfirst-key\n  second-key  \n# third-key\n")
    file.chmod(0o600)
    return file


def test_every_route_but_health_needs_a_key(key_file: Path) -> None:
    app, _, _ = make(keys=Keys(key_file))
    client = TestClient(app)
    asked = 0
    for route in app.routes:
        for method in route.methods:
            status = client.request(method, route.path.replace("{name}", "x")).status_code
            assert (status == 401) == (route.path not in _OPEN), (method, route.path, status)
            asked += 1
    assert asked > 10
    refused = client.post("/no-such-route")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"


def test_every_route_of_the_protocols_needs_a_key_but_pages(key_file: Path) -> None:
    app = build_app(Server(Models()), Keys(key_file))
    client = TestClient(app)
    open_ones = {*_OPEN, "/v2/health/live", "/v2/health/ready", "/page/{file:path}", "/docs", "/openapi.json"}
    asked = 0
    for route in app.routes:
        path = re.sub(r"{[^}]*}", "1", route.path)
        for method in route.methods:
            if route.path in open_ones or (path == "/" and method in ("GET", "HEAD")):
                continue
            assert client.request(method, path).status_code == 401, (method, route.path)
            asked += 1
    assert asked > 30
    assert (
        client.get("/").status_code == client.get("/docs").status_code == client.get("/openapi.json").status_code == 200
    )
    without_page = TestClient(build_app(Server(Models(), page=False), Keys(key_file)))
    assert without_page.get("/").status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer first-key"}, 200),
        ({"Authorization": "bearer second-key"}, 200),
        ({"X-API-Key": "second-key"}, 200),
        ({"Authorization": "Bearer third-key"}, 401),
        ({"Authorization": "Bearer # third-key"}, 401),
        ({"Authorization": "Basic first-key"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer first-ke"}, 401),
        ({"X-API-Key": ""}, 401),
        ({}, 401),
    ],
)
def test_keys(key_file: Path, headers: dict[str, str], status: int) -> None:
    app, _, _ = make(keys=Keys(key_file))
    assert TestClient(app).post("/length", headers=headers).status_code == status


def test_every_key_is_compared_in_constant_time(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(
        keys_module.hmac, "compare_digest", lambda one, other: compared.append((one, other)) or compare(one, other)
    )
    keys = Keys(key_file)
    for given in (b"first-key", b"second-key", b"x"):
        compared.clear()
        keys.admit(given)
        assert len(compared) == 2
        assert {len(each) for pair in compared for each in pair} == {32}, "digests, whose length says nothing"


def test_keys_are_read_again_and_stay_where_that_fails(key_file: Path) -> None:
    keys = Keys(key_file)
    key_file.write_text("third-key\n")
    keys.reload()
    assert (keys.admit(b"third-key"), keys.admit(b"first-key")) == (True, False)
    key_file.write_text("# none\n")
    with pytest.raises(InputError, match="holds no key"):
        keys.reload()
    key_file.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        keys.reload()
    assert keys.admit(b"third-key")


def test_a_file_that_others_can_read_is_said(key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Keys(key_file)
    assert capsys.readouterr().err == ""
    key_file.chmod(0o644)
    Keys(key_file)
    assert "Other users of this machine can read the keys" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8080", None, 200),
        ("127.0.0.1", None, 200),
        ("[::1]:8080", None, 200),
        ("cxr.test", None, 200),
        ("rebound.example", None, 403),
        ("127.0.0.1.example", None, 403),
        ("localhost:8080", "http://localhost:8080", 200),
        ("localhost:8080", "http://localhost:9999", 403),
        ("localhost:8080", "https://elsewhere.example", 403),
        ("localhost:8080", "null", 403),
        ("localhost:8080", "https://reports.example", 200),
    ],
)
def test_pages_of_other_sites_are_kept_out_without_keys(host: str, origin: str | None, status: int) -> None:
    app, _, _ = make(hosts={"cxr.test"}, cors=["https://reports.example"])
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    assert TestClient(app).post("/length", headers=headers).status_code == status


def test_other_hosts_are_let_in_where_any_is() -> None:
    app, _, _ = make()
    assert TestClient(app).post("/length", headers={"Host": "cxr.hospital.example"}).status_code == 200
    origin = {"Host": "cxr.hospital.example", "Origin": "https://elsewhere.example"}
    assert TestClient(app).post("/length", headers=origin).status_code == 403


def test_cors_is_off_unless_an_origin_is_named(key_file: Path) -> None:
    preflight = {"Origin": "https://reports.example", "Access-Control-Request-Method": "POST"}
    app, _, _ = make(keys=Keys(key_file))
    answer = TestClient(app).options("/length", headers=preflight)
    assert answer.status_code == 401
    assert "access-control-allow-origin" not in answer.headers
    app, _, _ = make(keys=Keys(key_file), cors=["https://reports.example"])
    client = TestClient(app)
    answer = client.options("/length", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://reports.example"
    answer = client.options("/length", headers={**preflight, "Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers
    refused = client.post("/length", headers={"Origin": "https://reports.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://reports.example", "pages read why"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
        ("", False), ("10.0.0.1", False), ("no-such-host.invalid", False),
    ],
)  # fmt: skip
def test_loopback(host: str, local: bool) -> None:
    assert loopback_only(host) is local
    assert is_loopback("127.0.0.1.example") is False
