"""The tasks of Hugging Face's `InferenceClient`: fill-mask, features, zero-shot images, similar sentences.

Its client posts to the URL that it was given and appends nothing, so that each task has a path of its own, and `/` is
the task that the server was started for. Sources: huggingface_hub, `_providers/hf_inference.py` (requests) and
`_generated/types` (answers); transformers, `pipelines/{fill_mask,zero_shot_image_classification}.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime.serve.models.contract import ServedModel
from runtime.serve.protocols.asked import Asked, asked_of, embed, prompt_of, require
from runtime.serve.protocols.label_prompts import check_size
from runtime.serve.protocols.masks import fill_masks
from runtime.serve.request_errors import RequestError
from runtime.serve.wire.fields import Fields
from runtime.serve.wire.given import Given, read_given
from runtime.serve.wire.images import decode_images
from runtime.serve.wire.json_text import answer, numbers

__all__ = ["routes"]

_HOLE = "{}"
_FEWEST_LABELS = 2


async def _fill_mask(asked: Asked, model: ServedModel, given: Given) -> Any:
    found = await fill_masks(asked, model, given.fields.texts("inputs"), given.fields.fields("parameters"))
    return found[0] if len(found) == 1 else found


async def _feature_extraction(asked: Asked, model: ServedModel, given: Given) -> Any:
    given.fields.fields("parameters")  # of other tasks; here options stand beside the inputs
    return await numbers(await embed(asked, model, given.fields, given.fields.texts("inputs")))


async def _sentence_similarity(asked: Asked, model: ServedModel, given: Given) -> Any:
    require(model, "text")
    return await sentence_similarity(asked, model, given.fields)


async def sentence_similarity(asked: Asked, model: ServedModel, fields: Fields) -> list[float]:
    """Cosines of `inputs.source_sentence` with each of `inputs.sentences`; text-embeddings-inference's request too."""
    require(model, "text")
    inputs = fields.fields("inputs")
    source = inputs.required_text("source_sentence")
    prompt = prompt_of(model, fields.fields("parameters"))
    return await model.text_similarity(asked.caller, source, inputs.texts("sentences"), prompt)


async def _zero_shot_image_classification(asked: Asked, model: ServedModel, given: Given) -> Any:
    require(model, "joint")
    if given.attached:
        raise given.fields.missing("parameters.candidate_labels", "JSON with the picture in base64 and labels")
    value = given.fields.values.get("inputs")
    if value is None:
        raise given.fields.missing("inputs", "a picture in base64")
    parameters = given.fields.fields("parameters")
    labels = parameters.values.get("candidate_labels")
    if isinstance(labels, str):  # as the pipeline takes them
        labels = [label.strip() for label in labels.split(",") if label.strip()]
    labels = Fields({"candidate_labels": labels}, parameters.within).texts("candidate_labels")
    if len(set(labels)) < max(len(labels), _FEWEST_LABELS):
        message = "`parameters.candidate_labels`: at least two are expected, and no two that are the same."
        raise RequestError("Validation", message, param="parameters.candidate_labels")
    template = parameters.text("hypothesis_template")
    if template is not None and _HOLE not in template:
        message = "`parameters.hypothesis_template` has no {} where the label should stand."
        raise RequestError("Validation", message, param="parameters.hypothesis_template")
    templates = None if template is None else [template]
    check_size(model, asked.limits, labels, templates)
    images = await decode_images(value if isinstance(value, list) else [value], "inputs", asked.limits.images)
    joint = model.engine.manifest.joint
    found = await model.classify(
        asked.caller,
        images,
        labels,
        score="sigmoid" if joint is not None and joint.score == "sigmoid" else "softmax",
        templates=templates,
    )
    shaped = [_best_first(each) for each in found]
    return shaped if isinstance(value, list) else shaped[0]


def _best_first(scores: Mapping[str, float]) -> list[dict[str, Any]]:
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    return [{"score": score, "label": label} for label, score in ranked]


_Task = Callable[[Asked, ServedModel, Given], Awaitable[Any]]
# Task → how it is answered.
_TASKS: Mapping[str, _Task] = MappingProxyType(
    {
        "fill-mask": _fill_mask,
        "feature-extraction": _feature_extraction,
        "zero-shot-image-classification": _zero_shot_image_classification,
        "sentence-similarity": _sentence_similarity,
    }
)


async def _answer(request: Request, task: str | None, name: str | None = None) -> Response:
    asked = asked_of(request)
    task = asked.server.task if task is None else task
    if task not in _TASKS:
        raise RequestError("NotFound", f"There is no such task; there are: {', '.join(_TASKS)}.")
    given = await read_given(request, asked.limits)
    with asked.server.models.lease(given.fields.text("model") if name is None else name) as model:
        content = await _TASKS[task](asked, model, given)
        return answer(content, headers=asked.headers(model))


async def _root(request: Request) -> Response:
    return await _answer(request, None)


async def _task(request: Request) -> Response:
    return await _answer(request, request.path_params["task"], request.path_params.get("model"))


async def _model(request: Request) -> Response:
    return await _answer(request, None, request.path_params["model"])


def _endpoint(task: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await _answer(request, task)

    return endpoint


def routes() -> list[BaseRoute]:
    """`POST /`, a path for each task, and the hub's paths for a model by its name."""
    return [
        Route("/", _root, methods=["POST"]),
        *(Route(f"/{task}", _endpoint(task), methods=["POST"]) for task in _TASKS),
        Route("/pipeline/{task}", _task, methods=["POST"]),
        Route("/models/{model:path}/pipeline/{task}", _task, methods=["POST"]),
        Route("/models/{model:path}", _model, methods=["POST"]),
    ]
