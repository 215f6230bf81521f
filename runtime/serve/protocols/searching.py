"""Search of an index by a text or an image, and small pictures of what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime.errors import InputError
from runtime.retrieval.index import Found, check_model
from runtime.serve.models.contract import ServedModel
from runtime.serve.protocols.asked import Asked, asked_of, embed, require
from runtime.serve.protocols.drawing import png
from runtime.serve.request_errors import RequestError
from runtime.serve.server_state import ServedIndex
from runtime.serve.wire.bodies import whole_number
from runtime.serve.wire.given import Given, read_given
from runtime.serve.wire.json_text import answer

__all__ = ["routes"]

_TOP_K = 10
_SIDE = 360


async def _search(request: Request) -> Response:
    asked = asked_of(request)
    given = await read_given(request, asked.limits)
    served = _served(asked.server.indexes, given.fields.text("index"))
    top_k = given.fields.whole("top_k", _TOP_K, 1, asked.limits.hits)
    with asked.server.models.lease(given.fields.text("model") or served.model) as model:
        try:
            check_model(model.engine.manifest, served.index.about.origin, served.name)
        except InputError:
            raise RequestError(
                "Validation", "The index was made with another model. Name that one as `model`.", param="model"
            ) from None
        query = await _query(asked, model, given)
        found = await asyncio.to_thread(served.index.search, query, top_k)
        content = {"index": served.name, "kind": served.index.kind, "hits": _hits(served, found), "model": model.name}
        return answer(content, headers=asked.headers(model))


async def _query(asked: Asked, model: ServedModel, given: Given) -> NDArray[np.float32]:
    if given.fields.has("text") == given.has_images:
        raise RequestError("Validation", "One of `text` and `image` is expected.", param="text")
    if given.has_images:
        require(model, "image")
        return await model.embed_images(asked.caller, [await given.image()])
    return await embed(asked, model, given.fields, [given.fields.required_text("text")])


def _hits(served: ServedIndex, found: Found) -> list[dict[str, Any]]:
    hits = []
    for rank, (row, score) in enumerate(zip(found.rows[0].tolist(), found.scores[0].tolist(), strict=True), 1):
        item = served.index.item(row)
        hit: dict[str, Any] = {"rank": rank, "score": score, "id": item.id}
        if item.text is not None:
            hit["text"] = item.text
        if item.path is not None and served.root is not None:
            hit["picture"] = f"/indexes/{served.name}/pictures/{row}"
        hits.append(hit)
    return hits


def _served(indexes: Mapping[str, ServedIndex], name: str | None) -> ServedIndex:
    if not indexes:
        raise RequestError("NotFound", "The server has no index.", param="index")
    if name is None:
        return next(iter(indexes.values()))
    if name not in indexes:
        raise RequestError(
            "NotFound", f"There is no index of that name; there are: {', '.join(indexes)}.", param="index"
        )
    return indexes[name]


async def _index_picture(request: Request) -> Response:
    asked = asked_of(request)
    served = _served(asked.server.indexes, request.path_params["name"])
    row = whole_number(request.path_params["row"])
    if row is None or row >= len(served.index):
        raise RequestError("NotFound", "The index has no item of that number.")
    path = await asyncio.to_thread(_inside, served, row)
    content = None if path is None else await asyncio.to_thread(_read, path, asked.limits.image_bytes)
    if content is None:
        raise RequestError("NotFound", "There is no picture of this item.")
    with asked.server.models.lease() as model:
        require(model, "image")
        try:
            picture = await model.picture(asked.caller, content)
        except InputError:
            raise RequestError("NotFound", "The picture of this item cannot be read.") from None
        small = await png(picture, _SIDE)
    return Response(small, headers={"Cache-Control": "private, max-age=3600"}, media_type="image/png")


def _inside(served: ServedIndex, row: int) -> Path | None:
    """Where the picture of an item is, links followed; None where that is not within the index' root."""
    written = served.index.item(row).path
    if written is None or served.root is None or served.index.kind != "image":
        return None
    try:
        root = served.root.resolve()
        path = (root / written).resolve()
    except (OSError, RuntimeError, ValueError):
        return None
    return path if path.is_relative_to(root) else None


def _read(path: Path, most: int) -> bytes | None:
    try:
        if not path.is_file() or path.stat().st_size > most:
            return None
        return path.read_bytes()
    except OSError:
        return None


def routes() -> list[BaseRoute]:
    """Paths of indexes."""
    return [
        Route("/search", _search, methods=["POST"]),
        Route("/indexes/{name}/pictures/{row}", _index_picture, methods=["GET"]),
    ]
