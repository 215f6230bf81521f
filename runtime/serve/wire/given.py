"""What a request brings: fields, and pictures, in whichever form they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from runtime.serve.limits import Limits
from runtime.serve.request_errors import RequestError
from runtime.serve.wire.bodies import body_chunks, media_type, read_body, refuse_encodings
from runtime.serve.wire.fields import Fields, type_name
from runtime.serve.wire.images import IMAGE_TYPES, decode_images
from runtime.serve.wire.json_text import parse_json
from runtime.serve.wire.multipart import Part, read_multipart

__all__ = ["Given", "read_fields", "read_given"]

_JSON, _FORM = "application/json", "multipart/form-data"
_IMAGE_FIELDS = ("image", "images")
# Taken from the URL where the body is a picture: nothing that may hold words of a report, which logs would keep.
_IN_URL = ("model", "prompts", "templates", "rule", "score", "format", "index", "top_k")
# Fields of a form that may be written in JSON.
_JSON_PARTS = ("prompts", "templates")
# Of a form, beside its texts and images.
_OTHER_PARTS = 16


@dataclass(frozen=True)
class Given:
    """What a request brings.

    Attributes:
        fields: of JSON, of a form, or of the URL where the body is a picture.
        most: pictures that a request may have.
        attached: pictures that came as they are: the body itself, or files of a form.
    """

    fields: Fields
    most: int
    attached: Sequence[bytes] = ()

    @property
    def has_images(self) -> bool:
        """Whether there is a picture, readable or not."""
        return bool(self.attached) or any(map(self.fields.has, _IMAGE_FIELDS))

    async def images(self) -> tuple[list[bytes], bool]:
        """The pictures, at least one, and whether it is one that did not come in a list.

        Raises:
            RequestError: none came, too many, or what came is none (422).
        """
        if self.attached:
            return list(self.attached), len(self.attached) == 1
        for name in _IMAGE_FIELDS:
            value: Any = self.fields.values.get(name)
            if value is not None:
                listed = value if isinstance(value, list) else [value]
                if not listed:
                    raise RequestError("Empty", f"`{name}` cannot be empty.", param=name)
                return await decode_images(listed, name, self.most), not isinstance(value, list)
        raise self.fields.missing("image", "a picture: a PNG, JPEG or DICOM file, in base64 where it is sent in JSON,")

    async def image(self) -> bytes:
        """The one picture.

        Raises:
            RequestError: none came, several, or what came is none (422).
        """
        images, _ = await self.images()
        if len(images) != 1:
            raise RequestError("Validation", f"{len(images)} images came where one is expected.", param="image")
        return images[0]


async def read_fields(request: Request, limits: Limits) -> Fields:
    """The fields of a JSON object that brings no pictures.

    Raises:
        RequestError: another media type or a compressed body (415), too large (413), no JSON (400), no object (422).
    """
    _check_type(request, (_JSON,))
    return await _json_fields(await read_body(request, limits.json_bytes), limits)


async def read_given(request: Request, limits: Limits) -> Given:
    """What a request brings that may bring pictures.

    JSON has them in base64; a form as files; or the body is one.

    Raises:
        RequestError: as for `read_fields`; a form that cannot be read (400), or has too many parts (422).
    """
    kind = _check_type(request, (_JSON, _FORM, *IMAGE_TYPES))
    if kind == _FORM:
        chunks = body_chunks(request, limits.image_bytes)
        boundary = media_type(request)[1].get("boundary", "")
        return await _of_form(
            await read_multipart(chunks, boundary, limits.texts + limits.images + _OTHER_PARTS), limits
        )
    body = await read_body(request, limits.image_bytes)
    if kind == _JSON or (not kind and body.lstrip()[:1] in (b"{", b"")):
        given = Given(await _json_fields(body, limits), limits.images)
        if len(body) > limits.json_bytes and not given.has_images:
            raise RequestError("TooLarge", f"Without images a body may have at most {limits.json_bytes:,} bytes.")
        return given
    query = {name: request.query_params[name] for name in _IN_URL if name in request.query_params}
    if not body:
        raise RequestError("Empty", "The body is empty where a picture is expected.")
    return Given(Fields(query, form=True), limits.images, [body])


def _check_type(request: Request, known: Sequence[str]) -> str:
    refuse_encodings(request)
    kind, _ = media_type(request)
    if kind not in ("", *known):
        named = ", ".join(each for each in known if each != IMAGE_TYPES[-1])
        raise RequestError(
            "UnsupportedMediaType",
            f"The Content-Type is not read here; one of these is expected: {named}.",
            headers={"Accept-Post": named},
        )
    return kind


async def _json_fields(body: bytes, limits: Limits) -> Fields:
    value = await parse_json(body, limits.nesting)
    if not isinstance(value, dict):
        raise RequestError("Validation", f"The body is {type_name(value)}; an object is expected.")
    return Fields(value)


async def _of_form(parts: Sequence[Part], limits: Limits) -> Given:
    attached = [part.data for part in parts if part.is_file and part.name in _IMAGE_FIELDS]
    if sum(len(part.data) for part in parts if not part.is_file) > limits.json_bytes:
        raise RequestError("TooLarge", f"The texts of the form have more than {limits.json_bytes:,} bytes.")
    values: dict[str, Any] = {}
    for part in parts:
        if part.is_file:
            continue
        try:
            text = part.data.decode("utf-8")
        except UnicodeDecodeError:
            raise RequestError(
                "BadRequest", "A field of the form is no UTF-8. Send pictures with a file name."
            ) from None
        is_json = part.name in _JSON_PARTS and text.lstrip()[:1] in ("{", "[")
        value = await parse_json(part.data, limits.nesting) if is_json else text
        if part.name in values:
            before = values[part.name]
            value = [*before, value] if isinstance(before, list) else [before, value]
        values[part.name] = value
    return Given(Fields(values, form=True), limits.images, attached)
