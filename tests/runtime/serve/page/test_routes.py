"""The page's files: complete, cached by what they are, and locked down."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import runtime.serve.page
from runtime.serve.page.page import ASSETS, routes
from runtime.serve.request_errors import RequestError
from tests.conftest import ROOT
from tests.runtime.serve.page.fake import Fake, build

_FOLDER = Path(runtime.serve.page.__file__).parent / "assets"


@pytest.fixture(scope="module")
def client():
    return TestClient(build(Fake()), follow_redirects=False)


def test_every_file_is_served_and_none_else_exists():
    on_disk = {path.relative_to(_FOLDER).as_posix() for path in _FOLDER.rglob("*") if path.is_file()}
    assert on_disk == set(ASSETS)


def test_every_file_is_in_the_wheel():
    declared = re.search(r'^"runtime\.serve\.page" = (\[.*\])$', (ROOT / "pyproject.toml").read_text(), re.M)
    packed = {
        path.relative_to(_FOLDER).as_posix() for glob in json.loads(declared[1]) for path in _FOLDER.parent.glob(glob)
    }
    assert packed == set(ASSETS)


def test_files_are_short_and_folders_small():
    for name in ASSETS:
        assert len((_FOLDER / name).read_text(encoding="utf-8").splitlines()) <= 300, name
    for folder in {(_FOLDER / name).parent for name in ASSETS}:
        assert sum(path.is_file() for path in folder.iterdir()) <= 15, folder


@pytest.mark.parametrize("name", ASSETS)
def test_a_file_is_sent_as_it_is_with_its_type(client, name):
    answer = client.get(f"/page/{name}")
    assert answer.status_code == 200
    assert answer.content == (_FOLDER / name).read_bytes()
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
    assert answer.headers["content-type"] == f"{kinds[Path(name).suffix]}; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


def test_the_policy_lets_nothing_in_but_the_servers_own(client):
    policy = client.get("/").headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }


def test_a_file_that_did_not_change_is_not_sent_again(client):
    first = client.get("/page/page.js")
    assert client.get("/page/page.js").headers["etag"] == first.headers["etag"]
    for condition in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = client.get("/page/page.js", headers={"If-None-Match": condition})
        assert (again.status_code, again.content) == (304, b""), condition
        assert again.headers["etag"] == first.headers["etag"]
    other = client.get("/page/page.css").headers["etag"]
    assert client.get("/page/page.js", headers={"If-None-Match": other}).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/page/", "/page/page.py", "/page/../page.py", "/page/..%2fpage.py", "/page/%2e%2e/__init__.py",
     "/page//etc/passwd", "/page/PAGE.JS", "/page/assets/page.js",
     "/page/drawing", "/page/drawing/", "/page/drawing/..%2fpage.js"],
)  # fmt: skip
def test_only_names_in_the_table_are_files(client, path):
    assert client.get(path).status_code == 404


def test_an_unknown_file_is_the_servers_own_error():
    with pytest.raises(RequestError) as caught:
        TestClient(Starlette(routes=routes())).get("/page/secret.js")
    assert caught.value.status == 404
    assert "secret" not in caught.value.message


def test_post_to_the_root_is_left_to_the_protocols():
    async def protocol(request):
        return PlainTextResponse("theirs")

    client = TestClient(Starlette(routes=[*routes(), Route("/", protocol, methods=["POST"])]))
    assert client.post("/").text == "theirs"
    assert "Radiographs" in client.get("/").text
    head = client.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert client.post("/page/page.js").status_code == 405


def test_no_file_has_inline_code_or_names_another_host():
    for name in ASSETS:
        content = (_FOLDER / name).read_text(encoding="utf-8")
        assert not re.search(
            r"https?://|\bstyle=|\son\w+=|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", content
        ), name
    html = (_FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|<script(?![^>]*\ssrc=)", html)
    assert set(re.findall(r'(?:src|href)="([^"#]+)', html)) == {
        "data:,", "/docs", "/page/page.css", "/page/page.js", "/page/results.css",
    }  # fmt: skip


def test_every_module_that_is_imported_is_there():
    for name in ASSETS:
        if name.endswith(".js"):
            text = (_FOLDER / name).read_text(encoding="utf-8")
            for target in re.findall(r'from "(.+?)"', text):
                found = ((_FOLDER / name).parent / target).resolve().relative_to(_FOLDER.resolve()).as_posix()
                assert found in ASSETS, (name, target)
