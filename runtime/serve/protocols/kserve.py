"""KServe's open inference protocol (version 2), which Triton and its clients speak: texts, films and masks as tensors.

Sources: open-inference-protocol, `inference_rest.md`; Triton, `http_server.cc` (statuses) and
`extension_binary_data.md`. Each bundle is up to three models: `NAME.text`, `NAME.image` and `NAME.fill_mask`; those of
the default bundle are called `text`, `image` and `fill_mask` as well. No request loads or unloads models, and nothing
is read from shared memory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime.process.version import __version__
from runtime.serve.models.contract import ServedModel
from runtime.serve.protocols.asked import Asked, asked_of, capabilities, embed
from runtime.serve.protocols.masks import fill_masks
from runtime.serve.request_errors import RequestError
from runtime.serve.wire.bodies import inflated, read_body
from runtime.serve.wire.fields import Fields
from runtime.serve.wire.images import decode_images
from runtime.serve.wire.json_text import answer
from runtime.serve.wire.tensors import JSON_LENGTH, Inference, Tensor, read_inference, written_bytes

__all__ = ["routes"]

_VERSION = "1"
# Output → datatype and values.
_Outputs = tuple[str, str, Any]


@dataclass(frozen=True)
class _Kind:
    """What a model of this protocol is.

    Attributes:
        needs: of the bundle, see `asked.capabilities`.
        inputs: name → datatype and shape; the first must be there.
        output: name and datatype.
        infer: answers.
    """

    needs: str
    inputs: Mapping[str, tuple[str, list[int]]]
    output: tuple[str, str]
    infer: Callable[[Asked, ServedModel, Inference], Awaitable[Any]]


async def _text(asked: Asked, model: ServedModel, inference: Inference) -> Any:
    return await embed(asked, model, Fields(inference.parameters, "parameters."), _texts(inference.inputs["TEXT"]))


async def _image(asked: Asked, model: ServedModel, inference: Inference) -> Any:
    values = inference.inputs["IMAGE"].values
    as_text = any(isinstance(each, str) for each in values)  # JSON has no bytes
    images = await decode_images(values, "IMAGE") if as_text else values
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
        "image": _Kind("image", {"IMAGE": ("BYTES", [-1, 1])}, ("EMBEDDING", "FP32"), _image),
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
        if not capabilities(model.engine)[_KINDS[kind].needs]:
            raise unknown
        yield name, _KINDS[kind], model


async def _server(request: Request) -> Response:
    models = asked_of(request).server.models
    served = []
    for position, name in enumerate(models.names):
        with models.lease(name) as model:
            able = capabilities(model.engine)
        kinds = [kind for kind, each in _KINDS.items() if able[each.needs]]
        served += ([] if position else kinds) + [f"{name}.{kind}" for kind in kinds]
    return answer(
        {"name": "cxr-engine", "version": __version__, "extensions": ["binary_tensor_data"], "models": served}
    )


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
                {"name": each, "datatype": kind_of, "shape": shape} for each, (kind_of, shape) in kind.inputs.items()
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
        body = await read_body(request, most, limits.header_seconds)
        body = await inflated(body, request.headers.get("content-encoding", ""), most)
        length = request.headers.get(JSON_LENGTH)
        inference = await read_inference(body, length, limits.nesting, limits.texts)
        _check(inference, kind)
        _bound_time(asked, inference.parameters)
        output, datatype = kind.output
        values = await kind.infer(asked, model, inference)
        content, json_bytes = written_bytes([(output, datatype, values)], inference, name, _VERSION)
        headers = asked.headers(model)
        if json_bytes:
            headers[JSON_LENGTH] = str(json_bytes)
        return Response(content, 200, headers, "application/octet-stream" if json_bytes else "application/json")


def _check(inference: Inference, kind: _Kind) -> None:
    first = next(iter(kind.inputs))
    if first not in inference.inputs:
        raise RequestError("BadRequest", f"The input {first} is missing.", param=first)
    for name, tensor in inference.inputs.items():
        if name not in kind.inputs:
            raise RequestError(
                "BadRequest", f"There is an input that the model has not; it has: {', '.join(kind.inputs)}."
            )
        datatype, shape = kind.inputs[name]
        # A batch of single elements may come without the second axis.
        flat = tensor.shape[:1] + tuple(side for side in tensor.shape[1:] if side != 1)
        if tensor.datatype != datatype or len(flat) != 1:
            message = f"The input {name} is expected as {datatype} of shape {shape}, such as [2, 1] for two."
            raise RequestError("BadRequest", message, param=name)
    if not len(inference.inputs[first].values):
        raise RequestError("Empty", f"The input {first} cannot be empty.", param=first)
    if set(inference.outputs) - {kind.output[0]}:
        raise RequestError("BadRequest", f"There is an output that the model has not; it has: {kind.output[0]}.")


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
