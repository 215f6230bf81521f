"""The server's own endpoints: embeddings of texts and images, their similarity, labels, phrases located, search.

An image comes as base64 in JSON, as a file of a form, or as the body itself; see `runtime.serve.wire.given`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime.serve.models.contract import ServedModel
from runtime.serve.protocols import pictures, searching
from runtime.serve.protocols.asked import asked_of, check_dimensions, embed, require
from runtime.serve.protocols.hugging_face import sentence_similarity
from runtime.serve.protocols.label_prompts import check_size, given_prompts, given_templates
from runtime.serve.wire.given import read_fields, read_given
from runtime.serve.wire.json_text import answer, numbers
from runtime.tasks.zero_shot import RULES, SCORES

__all__ = ["routes"]


async def _embed_text(request: Request) -> Response:
    asked = asked_of(request)
    fields = await read_fields(request, asked.limits)
    texts = fields.texts("texts")
    with asked.server.models.lease(fields.text("model")) as model:
        rows = await embed(asked, model, fields, texts)
        content = {
            "embeddings": await numbers(rows),
            "tokens": asked.caller.timings.tokens,
            "model": model.name,
        }
        return answer(content, headers=asked.headers(model))


async def _embed_image(request: Request) -> Response:
    asked = asked_of(request)
    given = await read_given(request, asked.limits)
    with asked.server.models.lease(given.fields.text("model")) as model:
        require(model, "image")
        check_dimensions(model, given.fields)
        images, _ = await given.images()
        rows = await model.embed_images(asked.caller, images)
        return answer({"embeddings": await numbers(rows), "model": model.name}, headers=asked.headers(model))


async def _similarity(request: Request) -> Response:
    asked = asked_of(request)
    given = await read_given(request, asked.limits)
    with asked.server.models.lease(given.fields.text("model")) as model:
        if given.fields.has("inputs"):  # text-embeddings-inference's endpoint of the same name
            cosines = await sentence_similarity(asked, model, given.fields)
            return answer(cosines, headers=asked.headers(model))
        require(model, "joint")
        texts = given.fields.texts("texts")
        found = await model.similarity(asked.caller, await given.image(), texts)
        return answer({"similarity": found, "model": model.name}, headers=asked.headers(model))


async def _classify(request: Request) -> Response:
    asked = asked_of(request)
    given = await read_given(request, asked.limits)
    fields = given.fields
    with asked.server.models.lease(fields.text("model")) as model:
        require(model, "joint")
        score = fields.choice("score", (*SCORES,), _own_score(model))
        rule = fields.choice("rule", (*RULES,), "") if fields.has("rule") else None
        prompts, templates = given_prompts(fields, score), given_templates(fields)
        check_size(model, asked.limits, prompts, templates)
        images, single = await given.images()
        found = await model.classify(asked.caller, images, prompts, rule=rule, score=score, templates=templates)
        content = {"labels": found[0]} if single else {"results": found}
        return answer({**content, "score": score, "model": model.name}, headers=asked.headers(model))


def _own_score(model: ServedModel) -> str:
    joint = model.engine.manifest.joint
    assert joint is not None
    return joint.score


def routes() -> list[BaseRoute]:
    """The server's own paths."""
    return [
        Route("/embed/text", _embed_text, methods=["POST"]),
        Route("/embed/image", _embed_image, methods=["POST"]),
        Route("/similarity", _similarity, methods=["POST"]),
        Route("/classify", _classify, methods=["POST"]),
        *pictures.routes(),
        *searching.routes(),
    ]
