"""Paths of OpenAI's clients and of KServe's, and those that tell how the server is."""

from __future__ import annotations

from runtime.serve.protocols.documented.operation import (
    MODEL,
    VECTOR,
    Operation,
    either,
    list_of,
    nullable,
    object_of,
    ref,
    text,
    whole,
)

__all__ = ["KSERVE", "OPENAI", "STATE"]

_OPENAI, _KSERVE, _STATE = "OpenAI embeddings", "KServe open inference protocol", "State"
_PARTS = either(text(), list_of(object_of({"type": text()}, ("type",)), 1))
_EMBEDDINGS_REQUEST = object_of(
    {
        "input": nullable(
            either(
                text(),
                list_of(either(text(), object_of({})), 1),
                description="Texts; pictures in base64 with `modality`; or objects {text}, {image}, {bytes} or {url}.",
            )
        ),
        "messages": nullable(list_of(object_of({"content": _PARTS}, ("content",)), 1)),
        "model": MODEL,
        "modality": nullable(text("text or image: what the strings of `input` are.")),
        "encoding_format": nullable(text("float or base64 of little-endian float32.")),
        "dimensions": nullable(whole("The model's own; no other can be had.")),
    }
)
_EMBEDDINGS = object_of(
    {
        "object": text(),
        "data": list_of(
            object_of(
                {"object": text(), "index": whole(), "embedding": either(VECTOR, text())},
                ("object", "index", "embedding"),
            )
        ),
        "model": text(),
        "usage": object_of({"prompt_tokens": whole(), "total_tokens": whole()}, ("prompt_tokens", "total_tokens")),
    },
    ("object", "data", "model", "usage"),
)
_EXAMPLE = {"model": "biovil", "input": ["No pleural effusion."], "encoding_format": "float"}
_EXAMPLE_ANSWER = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.12, -0.05]}],
    "model": "biovil",
    "usage": {"prompt_tokens": 6, "total_tokens": 6},
}
_ITS_MODEL = object_of(
    {"id": text(), "object": text(), "created": whole(), "owned_by": text()}, ("id", "object", "created", "owned_by")
)

OPENAI = (
    *(
        Operation(
            "post",
            path,
            _OPENAI,
            "Embeddings of texts or images.",
            _EMBEDDINGS,
            _EMBEDDINGS_REQUEST,
            _EXAMPLE,
            _EXAMPLE_ANSWER,
            "Token ids are refused: those that clients make are of another vocabulary. Images as infinity takes them "
            "(`modality`), as Jina does (a list of objects) or as vLLM does (`messages`).",
            dialect="openai",
        )
        for path in ("/v1/embeddings", "/embeddings")
    ),
    Operation(
        "get",
        "/v1/models",
        _OPENAI,
        "The bundles.",
        object_of({"object": text(), "data": list_of(_ITS_MODEL)}, ("object", "data")),
        dialect="openai",
        errors=(503,),
    ),
    Operation(
        "get",
        "/v1/models/{model}",
        _OPENAI,
        "A bundle.",
        _ITS_MODEL,
        parameters={"model": ref("Bundle")},
        dialect="openai",
        errors=(503,),
    ),
)

_TENSOR = object_of(
    {
        "name": text(),
        "shape": list_of(whole()),
        "datatype": text(),
        "parameters": nullable(object_of({})),
        "data": list_of({}),
    },
    ("name", "shape", "datatype"),
)
_DESCRIBED = list_of(
    object_of(
        {"name": text(), "datatype": text(), "shape": list_of({"type": "integer"})}, ("name", "datatype", "shape")
    )
)
_VERSIONED = {"model": ref("Served"), "version": text("", enum=["1"])}
_INFER_EXAMPLE = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["No effusion."]}]}


def _of_model(path: str) -> tuple[Operation, ...]:
    parameters = {name: schema for name, schema in _VERSIONED.items() if f"{{{name}}}" in path}
    return (
        Operation(
            "get",
            path,
            _KSERVE,
            "A model's inputs and outputs.",
            object_of(
                {
                    "name": text(),
                    "versions": list_of(text()),
                    "platform": text(),
                    "inputs": _DESCRIBED,
                    "outputs": _DESCRIBED,
                },
                ("name", "platform", "inputs", "outputs"),
            ),
            parameters=parameters,
            dialect="kserve",
            errors=(503,),
        ),
        Operation(
            "get",
            f"{path}/ready",
            _KSERVE,
            "Whether a model answers.",
            object_of({"name": text(), "ready": {"type": "boolean"}}, ("name", "ready")),
            parameters=parameters,
            dialect="kserve",
            errors=(503,),
        ),
        Operation(
            "post",
            f"{path}/infer",
            _KSERVE,
            "Embeddings of texts or images, or words for masks, as tensors.",
            object_of(
                {
                    "model_name": text(),
                    "model_version": text(),
                    "id": text(),
                    "outputs": list_of(_TENSOR),
                },
                ("model_name", "outputs"),
            ),
            object_of(
                {
                    "id": nullable(text()),
                    "parameters": nullable(object_of({})),
                    "inputs": list_of(_TENSOR, 1),
                    "outputs": nullable(list_of(object_of({"name": text()}, ("name",)))),
                },
                ("inputs",),
            ),
            _INFER_EXAMPLE,
            {
                "model_name": "text",
                "model_version": "1",
                "outputs": [{"name": "EMBEDDING", "datatype": "FP32", "shape": [1, 2], "data": [0.12, -0.05]}],
            },
            "Tensors may be binary behind the JSON, whose length the header Inference-Header-Content-Length then says. "
            "The body may be compressed (gzip, deflate).",
            parameters=parameters,
            dialect="kserve",
            answer_types=("application/octet-stream",),
        ),
    )


KSERVE = (
    Operation(
        "get",
        "/v2",
        _KSERVE,
        "The server and its models.",
        object_of(
            {"name": text(), "version": text(), "extensions": list_of(text()), "models": list_of(text())},
            ("name", "version", "extensions"),
        ),
        dialect="kserve",
        errors=(503,),
    ),
    Operation(
        "get",
        "/v2/health/live",
        _KSERVE,
        "Whether the engines answer.",
        object_of({"live": {"type": "boolean"}}, ("live",)),
        dialect="kserve",
        errors=(503,),
    ),
    Operation(
        "get",
        "/v2/health/ready",
        _KSERVE,
        "Whether requests are answered now.",
        object_of({"ready": {"type": "boolean"}}, ("ready",)),
        dialect="kserve",
        errors=(503,),
    ),
    *_of_model("/v2/models/{model}"),
    *_of_model("/v2/models/{model}/versions/{version}"),
)

# Answered by `runtime.serve.operation`.
STATE = (
    *(
        Operation("get", path, _STATE, summary, answer_types=("application/json", "text/plain"), errors=(503,))
        for path, summary in (
            ("/health", "Whether requests are answered now; text-embeddings-inference's."),
            ("/ping", "The same; SageMaker's."),
            ("/ready", "The same."),
            ("/readyz", "The same, and what it hangs on."),
            ("/livez", "Whether the server should be left running."),
        )
    ),
    Operation("get", "/metrics", _STATE, "Figures for Prometheus.", answer_types=("text/plain",)),
)
