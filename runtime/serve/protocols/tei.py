"""Hugging Face's text-embeddings-inference: its paths, requests, answers and headers.

Source: its `router/src/http/{server,types}.rs` and `docs/openapi.json`. Token ids are taken as they stand. What it has
for other kinds of models (`/predict`, `/rerank`, `/embed_sparse`) is not here; `/embed_all` says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime.serve.models.contract import ServedModel
from runtime.serve.protocols.asked import Asked, asked_of, check_dimensions, embed, prompt_of, require
from runtime.serve.protocols.info import server_info
from runtime.serve.request_errors import RequestError
from runtime.serve.wire.fields import Fields, refuse_items
from runtime.serve.wire.given import read_fields
from runtime.serve.wire.json_text import answer, numbers
from runtime.text import Tokenizer

__all__ = ["routes"]

_EXPECTED = "a text, a list of token ids, or a list of those"


async def _embed(request: Request) -> Response:
    asked = asked_of(request)
    fields = await read_fields(request, asked.limits)
    inputs = _inputs(fields)
    with asked.server.models.lease(fields.text("model")) as model:
        rows = await _embedded(asked, model, fields, inputs)
        return answer(await numbers(rows), headers=asked.headers(model))


def _inputs(fields: Fields) -> list[str | list[int]]:
    """Texts and rows of token ids, in order; a flat list of ids is one row."""
    value = fields.values.get("inputs")
    if isinstance(value, str):
        return [value]
    listed = fields.items("inputs", _EXPECTED)
    if _is_ids(listed):
        return [listed]
    refuse_items(
        listed,
        lambda each: None if isinstance(each, str) or _is_ids(each) else f"{_EXPECTED} is expected",
        "items of `inputs` are neither texts nor token ids",
        "inputs",
    )
    return listed


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


async def _embedded(asked: Asked, model: ServedModel, fields: Fields, inputs: Sequence[str | list[int]]) -> Any:
    texts = [each for each in inputs if isinstance(each, str)]
    ids = [each for each in inputs if not isinstance(each, str)]
    if not ids:
        return await embed(asked, model, fields, texts)
    require(model, "text")
    check_dimensions(model, fields)
    if prompt_of(model, fields) is not None:
        raise RequestError("Validation", "`prompt_name` goes with texts; there are token ids.", param="prompt_name")
    _check_ids(model.engine.text.tokenizer, inputs)
    of_ids = await model.embed_tokens(asked.caller, ids, normalize=fields.flag("normalize", True))
    if not texts:
        return of_ids
    of_texts = await embed(asked, model, fields, texts)
    rows = np.empty((len(inputs), of_ids.shape[1]), np.float32)
    is_text = np.array([isinstance(each, str) for each in inputs])
    rows[is_text], rows[~is_text] = of_texts, of_ids
    return rows


def _check_ids(tokenizer: Tokenizer, inputs: Sequence[str | list[int]]) -> None:
    size, longest = tokenizer.vocabulary_size, tokenizer.max_length
    expected = f"1 to {longest} token ids from 0 to {size - 1} are expected"

    def fault(row: str | list[int]) -> str | None:
        usable = isinstance(row, str) or (len(row) <= longest and min(row) >= 0 and max(row) < size)
        return None if usable else expected

    refuse_items(inputs, fault, "inputs are no token ids of this model", "inputs")


async def _embed_all(request: Request) -> Response:
    raise RequestError(
        "Validation",
        "Embeddings of single tokens are not served: the model's graph computes the embedding of a whole text alone. "
        "POST /embed gives that.",
    )


async def _tokenize(request: Request) -> Response:
    asked = asked_of(request)
    fields = await read_fields(request, asked.limits)
    texts, special = fields.texts("inputs"), fields.flag("add_special_tokens", True)
    _check_count(len(texts), asked.limits.texts)
    most = asked.limits.characters
    long = f"more than {most:,} characters; shorten it"
    refuse_items(texts, lambda text: long if len(text) > most else None, "texts are too long", "inputs")
    with asked.server.models.lease(fields.text("model")) as model:
        require(model, "text")
        tokenizer = model.engine.text.tokenizer
        name = prompt_of(model, fields)
        prompt = "" if name is None else tokenizer.prompt(name)
        found = await asyncio.to_thread(_spans, tokenizer, texts, prompt, special)
    return answer(found)


def _spans(tokenizer: Tokenizer, texts: Sequence[str], prompt: str, special: bool) -> list[list[dict[str, Any]]]:
    return [[asdict(each) for each in tokenizer.spans(text, prompt=prompt, special_tokens=special)] for text in texts]


async def _decode(request: Request) -> Response:
    asked = asked_of(request)
    fields = await read_fields(request, asked.limits)
    listed = fields.items("ids", "a list of token ids, or a list of those")
    rows = [listed] if _is_ids(listed) else listed
    _check_count(len(rows), asked.limits.texts)
    if not all(map(_is_ids, rows)):
        raise fields.wrong("ids", "a list of token ids, or a list of those,")
    skip = fields.flag("skip_special_tokens", True)
    with asked.server.models.lease(fields.text("model")) as model:
        require(model, "text")
        tokenizer = model.engine.text.tokenizer
        _check_ids(tokenizer, rows)
        texts = await asyncio.to_thread(_decoded, tokenizer, rows, skip)
    return answer(texts)


def _decoded(tokenizer: Tokenizer, rows: Sequence[Sequence[int]], skip: bool) -> list[str]:
    return [tokenizer.decode(row, skip_special_tokens=skip) for row in rows]


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise RequestError("Validation", f"batch size {count} > maximum allowed batch size {most}", param="inputs")


async def _info(request: Request) -> Response:
    return answer(server_info(asked_of(request).server))


def routes() -> list[BaseRoute]:
    """Its paths; `/similarity` is in `own`, which has one of the same name."""
    return [
        Route("/embed", _embed, methods=["POST"]),
        Route("/embed_all", _embed_all, methods=["POST"]),
        Route("/tokenize", _tokenize, methods=["POST"]),
        Route("/decode", _decode, methods=["POST"]),
        Route("/info", _info, methods=["GET"]),
    ]
