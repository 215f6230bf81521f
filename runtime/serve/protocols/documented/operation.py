"""One path and method of the OpenAPI document, and the schemas that several share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from runtime.serve.server_state import TASKS

__all__ = [
    "ERRORS",
    "IMAGE",
    "MODEL",
    "SCHEMAS",
    "TEXTS",
    "VECTOR",
    "VECTORS",
    "Operation",
    "either",
    "flag",
    "list_of",
    "nullable",
    "number",
    "object_of",
    "ref",
    "text",
    "whole",
]

Schema = Mapping[str, Any]


def ref(name: str) -> Schema:
    """A schema of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def text(description: str = "", **more: Any) -> Schema:
    """A text; `more` are keywords of JSON Schema."""
    return {"type": "string", **({"description": description} if description else {}), **more}


def flag(description: str, default: bool | None = None) -> Schema:
    """True or false."""
    return {"type": "boolean", "description": description, **({} if default is None else {"default": default})}


def number(description: str = "") -> Schema:
    """A number."""
    return {"type": "number", **({"description": description} if description else {})}


def whole(description: str = "", least: int = 0, most: int | None = None, default: int | None = None) -> Schema:
    """A whole number."""
    schema: dict[str, Any] = {"type": "integer", "minimum": least}
    if description:
        schema["description"] = description
    if most is not None:
        schema["maximum"] = most
    return schema if default is None else {**schema, "default": default}


def list_of(items: Schema, fewest: int = 0, description: str = "") -> Schema:
    """A list."""
    schema: dict[str, Any] = {"type": "array", "items": items}
    if fewest:
        schema["minItems"] = fewest
    return {**schema, "description": description} if description else schema


def either(*schemas: Schema, description: str = "") -> Schema:
    """One of some."""
    return {"anyOf": list(schemas), **({"description": description} if description else {})}


def nullable(schema: Schema) -> Schema:
    """The same, or null, which counts as left out."""
    if isinstance(schema.get("type"), str):
        kept = {name: value for name, value in schema.items() if name != "enum"}
        enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
        return {**kept, **enum, "type": [schema["type"], "null"]}
    described = {"description": schema["description"]} if "description" in schema else {}
    return {"anyOf": [{k: v for k, v in schema.items() if k != "description"}, {"type": "null"}], **described}


def object_of(properties: Mapping[str, Schema], required: Sequence[str] = (), description: str = "") -> Schema:
    """An object; of fields that are not required null counts as left out."""
    return {
        "type": "object",
        "properties": dict(properties),
        **({"required": list(required)} if required else {}),
        **({"description": description} if description else {}),
    }


TEXTS = either({"type": "string"}, list_of({"type": "string"}, 1), description="A text, or a list of texts.")
VECTOR = list_of(number())
VECTORS = list_of(VECTOR)
# Of a bundle, and of a model of KServe's protocol: `openapi.document` lists those that there are.
MODEL = either(ref("Bundle"), {"enum": ["", None]}, description="A bundle; the default one where it is left out.")
IMAGE = text("A PNG, JPEG or DICOM file in base64, alone or as a data: URL. URLs are not fetched.")

_FAULTS = list_of(object_of({"index": whole(), "reason": text()}, ("index", "reason")))
SCHEMAS: Mapping[str, Schema] = MappingProxyType(
    {
        "Error": object_of(
            {
                "error": text("What came, what is expected, what to do; never quotes a text."),
                "error_type": text("As text-embeddings-inference names it: Validation, Overloaded, …"),
                "request_id": text("That the log has it under."),
                "faults": {**_FAULTS, "description": "The texts or images that cannot be used, by position."},
                "retry_after": number("Seconds after which it is worth to come again."),
            },
            ("error", "error_type", "request_id"),
        ),
        "OpenAIError": object_of(
            {
                "error": object_of(
                    {
                        "message": text(),
                        "type": text(),
                        "param": nullable(text()),
                        "code": nullable(text()),
                        "faults": _FAULTS,
                        "request_id": text(),
                    },
                    ("message", "type", "param", "code"),
                )
            },
            ("error",),
        ),
        "KServeError": object_of({"error": text(), "request_id": text()}, ("error",)),
        "Bundle": text("Name of a bundle."),
        "Served": text("Such as text, image or fill_mask; GET /v2 lists them."),
        "Task": text("What is done.", enum=[*TASKS]),
        "FilledMask": object_of(
            {
                "score": number("Probability among all words, 0 to 1."),
                "token": whole("Its id."),
                "token_str": text("The word."),
                "sequence": text("The text with the word in place."),
            },
            ("score", "token", "token_str", "sequence"),
        ),
        "Label": object_of({"score": number(), "label": text()}, ("score", "label")),
    }
)
# Dialect → the schema of its errors.
ERRORS: Mapping[str, str] = MappingProxyType({"tei": "Error", "openai": "OpenAIError", "kserve": "KServeError"})


@dataclass(frozen=True)
class Operation:
    """One path and method.

    Attributes:
        method: "get" or "post".
        path: with {names}.
        tag: the protocol.
        summary: in a line.
        answer: schema of a 200; None for an answer that is no JSON.
        request: schema of the JSON body; None for none.
        example: of the JSON body.
        answer_example: of the answer.
        details: more, in Markdown's plain sentences.
        pictures: whether the body may be a form or a picture as well.
        form: fields of the form, beside the picture.
        answer_types: other media types of a 200: "image/png", "text/plain".
        parameters: name → schema of those in the path; the rest are in the query.
        errors: statuses beside those that every path may answer.
        dialect: of its errors.
    """

    method: str
    path: str
    tag: str
    summary: str
    answer: Schema | None = None
    request: Schema | None = None
    example: Any = None
    answer_example: Any = None
    details: str = ""
    pictures: bool = False
    form: Mapping[str, Schema] = field(default_factory=dict)
    answer_types: Sequence[str] = ()
    parameters: Mapping[str, Schema] = field(default_factory=dict)
    errors: Sequence[int] = ()
    dialect: str = "tei"
