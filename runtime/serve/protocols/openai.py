"""OpenAI's embeddings, and the three ways in which others send images to them.

Sources: openai-python, `resources/embeddings.py` and `lib/_parsing/_embeddings.py` (it asks for base64 where nothing is
said); infinity, `fastapi_schemas/pymodels.py` (`modality`); Jina's and vLLM's documentation (a list of `{"text"}` and
`{"image"}`; `messages`). Token ids are refused: those that clients make are of another vocabulary.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime.serve.models.contract import ServedModel
from runtime.serve.protocols.asked import Asked, asked_of, check_dimensions, embed, require
from runtime.serve.protocols.info import model_names
from runtime.serve.request_errors import RequestError
from runtime.serve.wire.fields import Fields, refuse_items
from runtime.serve.wire.given import read_given
from runtime.serve.wire.images import decode_images
from runtime.serve.wire.json_text import answer, numbers

__all__ = ["routes"]

_TEXT, _IMAGE = "text", "image"
# What an item of Jina's list calls its picture.
_PICTURES = ("image", "bytes", "url")
_FORMATS = ("float", "base64")
_EXPECTED = 'a text, an object such as {"image": "data:image/png;base64,…"}'
_OWNER = "cxr-engine"
# (kind, what came): one for each embedding that is wanted.
_Item = tuple[str, Any]


async def _embeddings(request: Request) -> Response:
    asked = asked_of(request)
    given = await read_given(request, asked.limits)
    if given.attached:
        raise RequestError(
            "UnsupportedMediaType", "JSON is expected here; POST /embed/image takes pictures as they are."
        )
    fields = given.fields
    items = _items(fields)
    formats = fields.choice(_format_field(fields), _FORMATS, "float")
    with asked.server.models.lease(fields.text("model")) as model:
        check_dimensions(model, fields)
        rows = await _embedded(asked, model, fields, items)
        embeddings = _base64(rows) if formats == "base64" else await numbers(rows)
        tokens = asked.caller.timings.tokens
        content = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(embeddings)
            ],
            "model": model.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return answer(content, headers=asked.headers(model))


def _format_field(fields: Fields) -> str:
    """OpenAI's name for it, or one of Jina's clients'."""
    names = ("encoding_format", "embedding_type", "encoding_type")
    return next((name for name in names if fields.has(name)), names[0])


def _items(fields: Fields) -> list[_Item]:
    modality = fields.choice("modality", (_TEXT, _IMAGE), _TEXT)  # checked where nothing asks for it as well
    if fields.has("messages"):
        if fields.has("input"):
            raise RequestError("Validation", "There are both `input` and `messages`; one of them is expected.")
        return [_of_messages(fields)]
    value = fields.values.get("input")
    listed = [value] if isinstance(value, (str, dict)) else fields.items("input", "a text or a list of texts")
    if any(isinstance(each, (int, list)) and not isinstance(each, bool) for each in listed):
        raise RequestError(
            "BadRequest",
            "`input` holds token ids, which are of another model's vocabulary: send texts. (In LangChain: "
            "check_embedding_ctx_length=False.)",
            param="input",
        )
    items = [(modality, each) if isinstance(each, str) else _of_object(each) for each in listed]
    refuse_items(items, _fault, "items of `input` cannot be used", "input")
    return [item for item in items if item is not None]


def _fault(item: _Item | None) -> str | None:
    return f"{_EXPECTED} is expected" if item is None else None


def _of_object(value: Any) -> _Item | None:
    """An item of Jina's list: {"text"}, or a picture under one of its names."""
    if not isinstance(value, dict):
        return None
    found = [(_TEXT, value[_TEXT])] if isinstance(value.get(_TEXT), str) else []
    found += [(_IMAGE, value[name]) for name in _PICTURES if isinstance(value.get(name), str)]
    return found[0] if len(found) == 1 else None


def _of_messages(fields: Fields) -> _Item:
    """vLLM's request: the picture of the messages, beside which texts are instructions, left out; else the text."""
    found: list[_Item | None] = []
    for message in fields.items("messages", "a list of messages"):
        content = message.get("content") if isinstance(message, dict) else None
        found += (
            [(_TEXT, content)]
            if isinstance(content, str)
            else map(_part, content if isinstance(content, list) and content else [None])
        )
    parts = [part for part in found if part is not None]
    if len(parts) < len(found):
        raise fields.wrong("messages", 'a list of messages, their parts of the types "text" and "image_url",')
    images = [part for part in parts if part[0] == _IMAGE]
    if len(images) > 1:
        raise RequestError("Validation", "`messages` have several images; one is embedded.", param="messages")
    return images[0] if images else (_TEXT, "\n".join(text for _, text in parts))


def _part(part: Any) -> _Item | None:
    if not isinstance(part, dict):
        return None
    if part.get("type") == "text":
        value, kind = part.get("text"), _TEXT
    else:
        url = part.get("image_url") if part.get("type") == "image_url" else None
        value, kind = url.get("url") if isinstance(url, dict) else None, _IMAGE
    return (kind, value) if isinstance(value, str) else None


async def _embedded(asked: Asked, model: ServedModel, fields: Fields, items: Sequence[_Item]) -> NDArray[np.float32]:
    """One row for each item, in order; unit norm, as OpenAI's have it."""
    kinds = np.array([kind for kind, _ in items])
    if len(set(kinds)) > 1:
        require(model, "joint")
    rows: dict[str, NDArray[np.float32]] = {}
    if pictures := [value for kind, value in items if kind == _IMAGE]:
        require(model, "image")
        images = await decode_images(pictures, "input", asked.limits.images)
        rows[_IMAGE] = await model.embed_images(asked.caller, images)
    if texts := [value for kind, value in items if kind == _TEXT]:
        options = Fields(
            {name: fields.values.get(name) for name in ("prompt_name", "truncate", "truncation_direction")}
        )
        rows[_TEXT] = await embed(asked, model, options, texts)
    if len(rows) == 1:
        return next(iter(rows.values()))
    mixed = np.empty((len(items), rows[_TEXT].shape[1]), np.float32)
    for kind, found in rows.items():
        mixed[kinds == kind] = found
    return mixed


def _base64(rows: NDArray[np.float32]) -> list[str]:
    little = np.ascontiguousarray(rows, "<f4")
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in little]


async def _models(request: Request) -> Response:
    listed = [_described(*each) for each in model_names(asked_of(request).server)]
    return answer({"object": "list", "data": listed})


async def _model(request: Request) -> Response:
    name = request.path_params["model"]
    if not name:  # nothing, or nothing but the end of a line
        raise RequestError("NotFound", "There is no model without a name.", param="model")
    with asked_of(request).server.models.lease(name) as model:
        return answer(_described(model.name, model.created))


def _described(name: str, created: float) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created), "owned_by": _OWNER}


def routes() -> list[BaseRoute]:
    """Its paths, with and without /v1, which clients put into their base URL or leave out."""
    return [
        Route("/v1/embeddings", _embeddings, methods=["POST"]),
        Route("/embeddings", _embeddings, methods=["POST"]),
        Route("/v1/models", _models, methods=["GET"]),
        Route("/v1/models/{model:path}", _model, methods=["GET"]),
    ]
