"""The OpenAPI document: all paths, valid examples, and a fuzzer that holds the server to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from starlette.routing import Route
from starlette.testclient import TestClient

from runtime.serve.app import build_app
from runtime.serve.operation.keys import Keys
from runtime.serve.protocols import hugging_face, kserve, openai, openapi, own, tei
from runtime.serve.protocols.openapi import document
from runtime.serve.server_state import Server

# Answered by `runtime.serve.operation`.
STATE = {"/health", "/ping", "/ready", "/readyz", "/livez", "/metrics"}
# Another way to a bundle's task of the server.
LEFT_OUT = {("POST", "/models/{model}")}


def served_paths() -> set[tuple[str, str]]:
    routes = [route for each in (own, hugging_face, openai, tei, kserve, openapi) for route in each.routes()]
    return {
        (method, re.sub(r":\w+\}", "}", route.path))
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }


def operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_path_is_described_and_there() -> None:
    described = {(method, path) for method, path, _ in operations()}
    assert {each for each in described if each[1] not in STATE} == served_paths() - LEFT_OUT


def test_what_it_refers_to_is_there() -> None:
    text = str(document())
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) == set(document()["components"]["schemas"])


def test_examples_follow_their_schemas() -> None:
    """By an independent validator."""
    import jsonschema_rs  # schemathesis brings it

    checked = 0
    for _, _, operation in operations():
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [each["content"] for each in operation["responses"].values()]
        for content in contents:
            found = content.get("application/json", {})
            if "example" in found:
                schema = {**found["schema"], "components": document()["components"]}
                jsonschema_rs.Draft202012Validator(schema).validate(found["example"])
                checked += 1
    assert checked > 25


def test_null_counts_as_left_out() -> None:
    """Clients that send a field for every option send null for what they do not use."""
    import jsonschema_rs

    whole = document()
    body = whole["paths"]["/v1/embeddings"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    valid = jsonschema_rs.Draft202012Validator({**body, "components": whole["components"]}).is_valid
    assert valid({"input": None, "messages": [{"content": "effusion"}], "dimensions": None})
    assert valid({"input": "effusion", "messages": None})
    assert not valid({"input": 1})


def test_the_page_has_no_script_and_loads_nothing(client: TestClient) -> None:
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert not re.findall(r"<script|<img|<link|\son\w+=|src=|https?://", answer.text)
    assert all(path in answer.text for path in document()["paths"])
    assert client.get("/openapi.json").json()["openapi"] == "3.1.0"


def test_bundles_are_named_to_those_with_a_key(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("a-key-of-some-length-0123456789\n")
    file.chmod(0o600)
    client = TestClient(build_app(server, Keys(file)))
    named = {}
    for key in ("a-key-of-some-length-0123456789", "another"):
        schemas = client.get("/openapi.json", headers={"X-API-Key": key}).json()["components"]["schemas"]
        named[key] = (schemas["Bundle"].get("enum"), "enum" in schemas["Served"])
    assert named == {"a-key-of-some-length-0123456789": (["tiny", "other"], True), "another": (None, False)}


@pytest.mark.slow
def test_a_fuzzer_finds_nothing(scheduled: Server) -> None:
    """No 5xx, statuses, media types and answers as described, and nothing is taken that the schemas forbid."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks as described

    schema = schemathesis.openapi.from_asgi("/openapi.json", build_app(scheduled))
    checks = [
        not_a_server_error,
        described.status_code_conformance,
        described.content_type_conformance,
        described.response_schema_conformance,
        described.negative_data_rejection,
    ]
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def fuzz(strategy: st.SearchStrategy[schemathesis.Case], data: st.DataObject) -> None:
        case = data.draw(strategy)
        answer = case.call()
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=checks)

    for found in schema.get_all_operations():
        operation = found.ok()
        fuzz(operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        if operation.method == "post":
            fuzz(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    assert statuses.total() > 500
    assert {200, 400, 404, 422} <= set(statuses)
