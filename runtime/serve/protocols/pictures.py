"""Phrases located in an image, and an image as the model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime.serve.models.contract import ServedModel
from runtime.serve.protocols.asked import Asked, asked_of, require
from runtime.serve.protocols.drawing import overlay, png
from runtime.serve.request_errors import RequestError
from runtime.serve.wire.given import Given, read_given
from runtime.serve.wire.json_text import answer
from runtime.tasks.joint import Located

__all__ = ["routes"]

_PNG = "image/png"


async def _ground(request: Request) -> Response:
    asked = asked_of(request)
    given = await read_given(request, asked.limits)
    phrases = given.fields.texts("phrases")
    if len(phrases) > asked.limits.phrases:
        message = f"{len(phrases)} phrases came; the most is {asked.limits.phrases}."
        raise RequestError("Validation", message, param="phrases")
    as_png = _wants_png(request, given)
    with asked.server.models.lease(given.fields.text("model")) as model:
        require(model, "patches")
        image = await given.image()
        if as_png:
            return await _drawn(asked, model, image, phrases[0])
        found = await model.ground(asked.caller, image, phrases)
        return answer({**_described(found, phrases), "model": model.name}, headers=asked.headers(model))


async def _drawn(asked: Asked, model: ServedModel, image: bytes, phrase: str) -> Response:
    (found,) = await model.ground(asked.caller, image, [phrase])
    picture = await model.picture(asked.caller, image)
    asked.caller.check()
    return Response(await overlay(model, picture, found, phrase), headers=asked.headers(model), media_type=_PNG)


def _wants_png(request: Request, given: Given) -> bool:
    accepts_it = request.headers.get("accept", "").split(",")[0].split(";")[0].strip().lower() == _PNG
    said = given.fields.has("format") or "format" not in request.query_params
    fields = given.fields if said else type(given.fields)(dict(request.query_params), form=True)
    return fields.choice("format", ("json", "png"), "png" if accepts_it else "json") == "png"


def _described(found: Sequence[Located], phrases: Sequence[str]) -> dict[str, Any]:
    """Maps patch by patch: enlarged to `box` by nearest neighbour, they are `Engine.similarity_map`."""
    width, height = found[0].size
    return {
        "width": width,
        "height": height,
        "box": dict(zip(("x", "y", "width", "height"), found[0].square, strict=True)),
        "grid": list(found[0].patches.shape),
        "phrases": [
            {"phrase": phrase, "score": each.score, "map": each.patches}
            for phrase, each in zip(phrases, found, strict=True)
        ],
    }


async def _picture(request: Request) -> Response:
    asked = asked_of(request)
    given = await read_given(request, asked.limits)
    with asked.server.models.lease(given.fields.text("model")) as model:
        require(model, "image")
        picture = await model.picture(asked.caller, await given.image())
        return Response(await png(picture), headers=asked.headers(model), media_type=_PNG)


def routes() -> list[BaseRoute]:
    """Paths that show images."""
    return [Route("/ground", _ground, methods=["POST"]), Route("/picture", _picture, methods=["POST"])]
