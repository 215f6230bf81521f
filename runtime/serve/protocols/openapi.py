"""The OpenAPI document of all paths, and a plain page of it: no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from runtime.process.version import __version__
from runtime.process.wording import RESEARCH_ONLY
from runtime.serve.protocols.asked import asked_of
from runtime.serve.protocols.documented.hub import HUB
from runtime.serve.protocols.documented.operation import ERRORS, IMAGE, SCHEMAS, Operation, object_of, ref, text
from runtime.serve.protocols.documented.others import KSERVE, OPENAI, STATE
from runtime.serve.protocols.documented.own import OWN
from runtime.serve.protocols.kserve import served_names
from runtime.serve.wire.images import IMAGE_TYPES
from runtime.serve.wire.json_text import answer

__all__ = ["document", "routes"]

_SELF = (
    Operation(
        "get",
        "/openapi.json",
        "State",
        "This document; with a key it names the bundles.",
        object_of({"openapi": text()}, ("openapi",)),
        errors=(503,),
    ),
    Operation("get", "/docs", "State", "This document as a page.", answer_types=("text/html",)),
)
_OPERATIONS = (*OWN, *HUB, *OPENAI, *KSERVE, *STATE, *_SELF)
_ABOUT = (
    "Texts and radiographs in one space: embeddings, words for masks, zero-shot labels, phrases located. "
    f"{RESEARCH_ONLY} Errors never quote a text."
)
# Status → what it means here; those of every path, and those of paths that read a body.
_ANYWHERE = {
    401: "No key, or an unknown one.",
    403: "A browser sent it from another site.",
    404: "No such path, model or item.",
    429: "The queue is full; Retry-After says when to come again.",
    500: "A fault of the server's; the log has the request's id.",
}
_WITH_BODY = {
    400: "No JSON, no form, or an empty list.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The Content-Type is not read here, or the body is compressed.",
    422: "A field, a text or an image cannot be used.",
    503: "The server stops, or has not started.",
    504: "The deadline passed: X-Request-Timeout, or the server's own.",
}
_MEANING = {**_ANYWHERE, **_WITH_BODY}


@lru_cache(4)
def document(bundles: tuple[str, ...] = (), served: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """The document, OpenAPI 3.1.

    Args:
        bundles: their names, which requests may give; empty for any.
        served: names of KServe's models, likewise.
    """
    names = {"Bundle": bundles, "Served": served}
    schemas = {
        name: {**schema, "enum": [*names[name]]} if names.get(name) else schema for name, schema in SCHEMAS.items()
    }
    paths: dict[str, dict[str, Any]] = {}
    for each in _OPERATIONS:
        paths.setdefault(each.path, {})[each.method] = _described(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "cxr-engine", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        # With and without a key, as the server was started.
        "security": [{}, {"key": []}],
        "tags": [{"name": name} for name in dict.fromkeys(each.tag for each in _OPERATIONS)],
    }


def _described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": f"{operation.method}{operation.path}",
        "responses": _answers(operation),
    }
    if operation.details:
        found["description"] = operation.details
    if operation.parameters:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": schema}
            for name, schema in operation.parameters.items()
        ]
    if operation.request is not None:
        found["requestBody"] = {"required": True, "content": _bodies(operation)}
    return found


def _bodies(operation: Operation) -> dict[str, Any]:
    bodies: dict[str, Any] = {"application/json": {"schema": operation.request, "example": operation.example}}
    if operation.pictures:
        film = {"type": "string", "contentMediaType": "image/png"}
        bodies["multipart/form-data"] = {"schema": object_of({"image": film, **operation.form}, ("image",))}
        bodies |= {name: {"schema": {"description": IMAGE["description"]}} for name in IMAGE_TYPES}
    return bodies


def _answers(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {name: {} for name in operation.answer_types}
    if operation.answer is not None:
        content["application/json"] = {"schema": operation.answer}
        if operation.answer_example is not None:
            content["application/json"]["example"] = operation.answer_example
    answers: dict[str, Any] = {"200": {"description": "The answer.", "content": content}}
    statuses = {*_ANYWHERE, *operation.errors, *(() if operation.request is None else _WITH_BODY)}
    schema = {"application/json": {"schema": ref(ERRORS[operation.dialect])}}
    if "text/plain" in operation.answer_types:  # states are said in words
        schema["text/plain"] = {}
    for status in sorted(statuses):
        answers[str(status)] = {"description": _MEANING[status], "content": schema}
    return answers


_CODE = re.compile("`([^`]+)`")
_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 60rem; margin: 0 auto; padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid; }
h3 { margin: 2rem 0 0.25rem; font-family: ui-monospace, monospace; font-size: 1rem; }
pre { padding: 0.75rem; border: 1px solid; border-radius: 4px; overflow-x: auto; font-size: 0.85rem; }
td, th { text-align: left; vertical-align: top; padding: 0.15rem 1rem 0.15rem 0; }
"""
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)


@lru_cache(1)
def _page() -> str:
    by_tag: dict[str, list[Operation]] = {}
    for each in _OPERATIONS:
        by_tag.setdefault(each.tag, []).append(each)
    errors = _table((str(status), _MEANING[status]) for status in sorted(_MEANING))
    sections = "".join(
        f"<h2>{html.escape(tag)}</h2>{''.join(map(_section, operations))}" for tag, operations in by_tag.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>cxr-engine {__version__}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>cxr-engine {__version__}</h1><p>{html.escape(_ABOUT)}</p>"
        '<p>As a document for programs: <a href="/openapi.json">/openapi.json</a>. * marks what must be there.</p>'
        f"{sections}<h2>Errors</h2>{errors}</body></html>"
    )


def _section(operation: Operation) -> str:
    parts = [f"<h3>{operation.method.upper()} {html.escape(operation.path)}</h3>"]
    parts += [_marked(f"<p>{html.escape(each)}</p>") for each in (operation.summary, operation.details) if each]
    if operation.request is not None:
        properties = operation.request.get("properties", {})
        must = operation.request.get("required", ())
        rows = (
            (f"{name} *" if name in must else name, str(each.get("description", "")))
            for name, each in properties.items()
        )
        parts.append(_table(rows))
        parts.append(
            _code(f"curl -H 'Content-Type: application/json' -d '{_json(operation.example)}' …{operation.path}")
        )
    if operation.answer_example is not None:
        parts.append(_code(_json(operation.answer_example)))
    return "".join(parts)


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(said)}</td></tr>" for name, said in rows)
    return _marked(f"<table>{cells}</table>") if cells else ""


def _marked(escaped: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escaped)


def _code(said: str) -> str:
    return f"<pre>{html.escape(said, quote=False)}</pre>"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


async def _document(request: Request) -> Response:
    if not getattr(request.state, "admitted", True):  # the path is open; names of bundles are for those with a key
        return answer(document())
    models = asked_of(request).server.models
    return answer(document(tuple(models.names), tuple(served_names(models))))


async def _docs(request: Request) -> Response:
    return HTMLResponse(_page(), headers={"Content-Security-Policy": _POLICY})


def routes() -> list[BaseRoute]:
    """The document and its page."""
    return [Route("/openapi.json", _document, methods=["GET"]), Route("/docs", _docs, methods=["GET"])]
