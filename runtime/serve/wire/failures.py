"""Errors → what a client is told, in the form that its protocol has for them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from runtime.errors import BundleError, InputError, MissingExtraError
from runtime.serve.request_errors import RefusedItem, RequestError
from runtime.serve.wire.json_text import answer as json_answer
from runtime.tasks.prompt_sets import PROMPT_SETS
from runtime.tasks.prompts import SIDES
from runtime.tasks.templates import TEMPLATE_SETS
from runtime.tasks.zero_shot import RULES, SCORES

__all__ = ["answer", "dialect_of", "request_error", "without_quotes"]

# Prefixes of paths, whole segments of them → how errors are written there; elsewhere as text-embeddings-inference does.
_DIALECTS: Mapping[str, str] = {"/v1": "openai", "/embeddings": "openai", "/v2": "kserve"}
# OpenAI's `type` and `code`.
_OPENAI = {
    "Unauthorized": ("invalid_request_error", "invalid_api_key"),
    "Forbidden": ("invalid_request_error", None),
    "Overloaded": ("rate_limit_error", "rate_limit_exceeded"),
    "Backend": ("server_error", None),
    "Unhealthy": ("server_error", None),
    "Timeout": ("server_error", "timeout"),
}
# Its clients would try these again, to no avail.
_NOT_AGAIN = ("Backend", "Timeout")
_LISTED = 100
_INTERNAL = "internal error"
_OWN = re.compile("['`](" + "|".join(map(re.escape, (*PROMPT_SETS, *TEMPLATE_SETS, *SCORES, *RULES, *SIDES))) + ")['`]")
_OPENING, _CLOSING = re.compile(r"""(?<!\w)['"“`]"""), re.compile(r"""['"”`](?!.*['"”`])""", re.DOTALL)


def dialect_of(path: str) -> str:
    """How errors are written at a path: "openai", "kserve", or "tei", which Hugging Face's clients read as well."""
    return next((name for prefix, name in _DIALECTS.items() if f"{path}/".startswith(f"{prefix}/")), "tei")


def answer(error: Exception, path: str, request_id: str) -> Response:
    """Any error as an answer; whoever calls this logs what nobody foresaw.

    Args:
        error: that was raised.
        path: of the request.
        request_id: that the client is told.
    """
    told = request_error(error)
    headers = dict(told.headers)
    if told.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(told.retry_after)))
    dialect = dialect_of(path)
    if dialect == "openai" and told.kind in _NOT_AGAIN:
        headers["x-should-retry"] = "false"
    return json_answer(_BODIES[dialect](told, request_id), told.status, headers)


def request_error(error: Exception) -> RequestError:
    """What a client may know of an error: never a text, a path, or the content of a file."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, InputError):
        items = [RefusedItem(fault.index, without_quotes(fault.reason)) for fault in error.faults]
        if not items:
            return RequestError("Validation", without_quotes(str(error)))
        many = f"{len(items)} items cannot be used; " if len(items) > 1 else ""
        message = f"{many}item {items[0].index} cannot be used: {items[0].reason.rstrip('.')}."
        message = message[0].upper() + message[1:]
        return RequestError("Validation", message, items=items)
    if isinstance(error, BundleError):
        return RequestError("Validation", "The model cannot do this; GET /info says what it can.")
    if isinstance(error, MissingExtraError):
        return RequestError("Validation", "This needs an optional package that is not installed on the server.")
    return RequestError("Backend", _INTERNAL)


def without_quotes(message: str) -> str:
    """A message of the runtime without what it quotes, which may be what the client sent.

    From the first quotation mark to the last one, of whatever kind, all is left out: what is quoted may have quotation
    marks itself. Names of the project's own, of prompt sets, scores and the like, stay.
    """
    message = _OWN.sub(r"\1", message)
    first = _OPENING.search(message)
    if first is None:
        return message
    last = _CLOSING.search(message, first.end())
    return f"{message[: first.start()]}…{message[last.end() :] if last else ''}"


def _tei(told: RequestError, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {"error": told.message, "error_type": told.kind, "request_id": request_id}
    if told.items:
        body["faults"] = _faults(told.items)
    if told.retry_after is not None:
        body["retry_after"] = round(told.retry_after, 3)
    return body


def _openai(told: RequestError, request_id: str) -> dict[str, Any]:
    kind, code = _OPENAI.get(told.kind, ("invalid_request_error", None))
    if told.kind == "NotFound" and told.param == "model":
        code = "model_not_found"
    error: dict[str, Any] = {"message": told.message, "type": kind, "param": told.param, "code": code}
    if told.items:
        error["faults"] = _faults(told.items)
    if told.status >= 500:
        error["request_id"] = request_id
    return {"error": error}


def _kserve(told: RequestError, request_id: str) -> dict[str, Any]:
    reasons = "".join(f" [{each.index}] {each.reason}." for each in told.items[:_LISTED]) if len(told.items) > 1 else ""
    body = {"error": f"{told.message}{reasons}"}
    return {**body, "request_id": request_id} if told.status >= 500 else body


_BODIES = {"tei": _tei, "openai": _openai, "kserve": _kserve}


def _faults(items: Sequence[RefusedItem]) -> list[dict[str, Any]]:
    return [{"index": each.index, "reason": each.reason} for each in items[:_LISTED]]
