"""KServe's open inference protocol (version 2), which Triton and its clients speak: texts, films and masks as tensors.

Sources: open-inference-protocol, `inference_rest.md`; Triton, `http_server.cc` (statuses) and
`extension_binary_data.md`. Each bundle is up to three models: `NAME.text`, `NAME.image` and `NAME.fill_mask`; those of
the default bundle are called `text`, `image` and `fill_mask` as well. No request loads or unloads models, and nothing
is read from shared memory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime.process.version import __version__
from runtime.serve.models.contract import ServedModel, ServedModels
from runtime.serve.protocols.asked import Asked, asked_of, capabilities, embed
from runtime.serve.protocols.masks import fill_masks
from runtime.serve.request_errors import RequestError
from runtime.serve.wire.bodies import inflated, read_body
from runtime.serve.wire.fields import Fields
from runtime.serve.wire.images import decode_images
from runtime.serve.wire.json_text import answer
from runtime.serve.wire.tensors import JSON_LENGTH, Inference, Tensor, read_inference, written_bytes

__all__ = ["routes", "served_names"]

_VERSION = "1"
# Output → datatype and values.
_Outputs = tuple[str, str, Any]


@dataclass(frozen=True)
class _Kind:
    """What a model of this protocol is.

    Attributes:
        needs: of the bundle, see `asked.capabilities`.
        inputs: name → datatype and shape; the first must be there, unless there is `instead`. Pixels have the
            bundle's shape behind their count.
        output: name and datatype.
        infer: answers.
        instead: an input that may come in place of the first.
    """

    needs: str
    inputs: Mapping[str, tuple[str, list[int]]]
    output: tuple[str, str]
    infer: Callable[[Asked, ServedModel, Inference], Awaitable[Any]]
    instead: str = ""


async def _text(asked: Asked, model: ServedModel, inference: Inference) -> Any:
    return await embed(asked, model, Fields(inference.parameters, "parameters."), _texts(inference.inputs["TEXT"]))


async def _image(asked: Asked, model: ServedModel, inference: Inference) -> Any:
    if "PIXELS" in inference.inputs:
        return await model.embed_pixels(asked.caller, np.array(inference.inputs["PIXELS"].values))
    values = inference.inputs["IMAGE"].values
    as_text = any(isinstance(each, str) for each in values)  # JSON has no bytes
    images = await decode_images(values, "IMAGE", asked.limits.images) if as_text else values
    return await model.embed_images(asked.caller, images)


async def _fill_mask(asked: Asked, model: ServedModel, inference: Inference) -> list[bytes]:
    parameters = dict(inference.parameters)
    top_k, targets = inference.inputs.get("TOP_K"), inference.inputs.get("TARGETS")
    if top_k is not None and top_k.values.size == 1:
        parameters["top_k"] = int(top_k.values.reshape(-1)[0])
    if targets is not None:
        parameters["targets"] = _texts(targets)
    found = await fill_masks(asked, model, _texts(inference.inputs["TEXT"]), Fields(parameters, "parameters."))
    return [orjson.dumps(each) for each in found]


def _texts(tensor: Tensor) -> list[str]:
    try:
        return [each if isinstance(each, str) else each.decode("utf-8") for each in tensor.values]
    except UnicodeDecodeError:
        raise RequestError("BadRequest", f"An element of the input {tensor.name} is no UTF-8.") from None


_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "text": _Kind("text", {"TEXT": ("BYTES", [-1, 1])}, ("EMBEDDING", "FP32"), _text),
        "image": _Kind(
            "image",
            {"IMAGE": ("BYTES", [-1, 1]), "PIXELS": ("UINT8", [-1])},
            ("EMBEDDING", "FP32"),
            _image,
            instead="PIXELS",
        ),
        "fill_mask": _Kind(
            "mask",
            {"TEXT": ("BYTES", [-1, 1]), "TOP_K": ("INT32", [1]), "TARGETS": ("BYTES", [-1])},
            ("JSON", "BYTES"),
            _fill_mask,
        ),
    }
)


@contextlib.contextmanager
def _found(request: Request, asked: Asked) -> Iterator[tuple[str, _Kind, ServedModel]]:
    """The model that a path names, with its bundle; RequestError (404) where there is none."""
    name = request.path_params["model"]
    bundle, _, kind = name.rpartition(".")
    unknown = RequestError(
        "NotFound", "There is no such model, or not in this version. GET /v2 lists them.", param="model"
    )
    if request.path_params.get("version", _VERSION) != _VERSION or kind not in _KINDS:
        raise unknown
    if bundle and bundle not in asked.server.models.names:
        raise unknown
    with asked.server.models.lease(bundle or None) as model:
        if not capabilities(model)[_KINDS[kind].needs]:
            raise unknown
        yield name, _KINDS[kind], model


def served_names(models: ServedModels) -> list[str]:
    """Names of all models of this protocol."""
    served: list[str] = []
    for position, name in enumerate(models.names):
        with models.lease(name) as model:
            able = capabilities(model)
        kinds = [kind for kind, each in _KINDS.items() if able[each.needs]]
        served += ([] if position else kinds) + [f"{name}.{kind}" for kind in kinds]
    return served


async def _server(request: Request) -> Response:
    content = {"name": "cxr-engine", "version": __version__, "extensions": ["binary_tensor_data"]}
    return answer({**content, "models": served_names(asked_of(request).server.models)})


async def _live(request: Request) -> Response:
    alive, why = asked_of(request).server.models.alive()
    return answer({"live": True}) if alive else answer({"live": False, "error": why}, 503)


async def _ready(request: Request) -> Response:
    ready, why = asked_of(request).server.ready()
    return answer({"ready": True}) if ready else answer({"ready": False, "error": why}, 503)


async def _metadata(request: Request) -> Response:
    with _found(request, asked_of(request)) as (name, kind, model):
        manifest = model.engine.manifest
        part = manifest.image if kind.needs == "image" else manifest.text
        assert part is not None
        output, datatype = kind.output
        content = {
            "name": name,
            "versions": [_VERSION],
            "platform": f"{model.engine.provider}_onnx",
            "inputs": [
                {"name": each, "datatype": kind_of, "shape": shape}
                for each, (kind_of, shape) in _inputs(kind, model).items()
            ],
            "outputs": [
                {
                    "name": output,
                    "datatype": datatype,
                    "shape": [-1, 1 if datatype == "BYTES" else part.embedding_size],
                }
            ],
        }
        return answer(content)


async def _model_ready(request: Request) -> Response:
    asked = asked_of(request)
    with _found(request, asked) as (name, _, _):
        ready, why = asked.server.ready()
        return answer({"name": name, "ready": ready, **({} if ready else {"error": why})}, 200 if ready else 503)


async def _infer(request: Request) -> Response:
    asked = asked_of(request)
    limits = asked.limits
    with _found(request, asked) as (name, kind, model):
        most = limits.image_bytes if kind.needs == "image" else limits.json_bytes
        body = await read_body(request, most)
        body = await inflated(body, request.headers.get("content-encoding", ""), most)
        length = request.headers.get(JSON_LENGTH)
        inference = await read_inference(body, length, limits.nesting, limits.texts)
        _check(inference, kind, model)
        _bound_time(asked, inference.parameters)
        output, datatype = kind.output
        values = await kind.infer(asked, model, inference)
        content, json_bytes = written_bytes([(output, datatype, values)], inference, name, _VERSION)
        headers = asked.headers(model)
        if json_bytes:
            headers[JSON_LENGTH] = str(json_bytes)
        return Response(content, 200, headers, "application/octet-stream" if json_bytes else "application/json")


def _inputs(kind: _Kind, model: ServedModel) -> dict[str, tuple[str, list[int]]]:
    """Its inputs with the bundle's shape of pixels."""
    image = model.engine.manifest.image
    pixels = [-1, *image.preprocessing.shape] if image else []
    return {name: (datatype, pixels if name == "PIXELS" else shape) for name, (datatype, shape) in kind.inputs.items()}


def _check(inference: Inference, kind: _Kind, model: ServedModel) -> None:
    known = _inputs(kind, model)
    first = kind.instead if kind.instead in inference.inputs else next(iter(known))
    if first not in inference.inputs or (kind.instead and len(inference.inputs) > 1):
        either = " or ".join(filter(None, (next(iter(known)), kind.instead)))
        raise RequestError("BadRequest", f"The input {either} is missing, or there are more.", param=first)
    for name, tensor in inference.inputs.items():
        if name not in known:
            raise RequestError("BadRequest", f"There is an input that the model has not; it has: {', '.join(known)}.")
        datatype, shape = known[name]
        if tensor.datatype != datatype or not _fits(tensor.shape, shape):
            message = f"The input {name} is expected as {datatype} of shape {shape}; -1 stands for any number."
            raise RequestError("BadRequest", message, param=name)
    if not len(inference.inputs[first].values):
        raise RequestError("Empty", f"The input {first} cannot be empty.", param=first)
    if set(inference.outputs) - {kind.output[0]}:
        raise RequestError("BadRequest", f"There is an output that the model has not; it has: {kind.output[0]}.")


def _fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    """Whether a shape is as expected; a last axis of 1 may be left out or be there."""
    found, wanted = ([*each[:-1]] if len(each) > 1 and each[-1] == 1 else [*each] for each in (shape, expected))
    return len(found) == len(wanted) and all(side in (-1, given) for given, side in zip(found, wanted, strict=True))


def _bound_time(asked: Asked, parameters: Mapping[str, Any]) -> None:
    """`timeout` of a request, in microseconds."""
    timeout = parameters.get("timeout")
    if type(timeout) is int and timeout > 0:
        deadline, before = time.monotonic() + timeout / 1e6, asked.caller.deadline
        asked.caller.deadline = deadline if before is None else min(before, deadline)


def routes() -> list[BaseRoute]:
    """Its paths; a model's with and without a version."""
    models = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    return [
        Route("/v2", _server, methods=["GET"]),
        Route("/v2/health/live", _live, methods=["GET"]),
        Route("/v2/health/ready", _ready, methods=["GET"]),
        *(Route(path, _metadata, methods=["GET"]) for path in models),
        *(Route(f"{path}/ready", _model_ready, methods=["GET"]) for path in models),
        *(Route(f"{path}/infer", _infer, methods=["POST"]) for path in models),
    ]
