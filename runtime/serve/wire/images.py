"""Pictures within JSON: base64, alone or as a data URL."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from collections.abc import Sequence
from typing import Any

from runtime.serve.request_errors import RefusedItem, RequestError
from runtime.serve.wire.json_text import OFF_LOOP_BYTES

__all__ = ["IMAGE_TYPES", "decode_images"]

# Of raw bodies, and of data URLs; the decoder goes by the content alone.
IMAGE_TYPES = ("image/png", "image/jpeg", "application/dicom", "application/octet-stream")
# Decoded at a time, a multiple of 4: other threads run in between.
_PIECE = 1 << 20
_SCHEMES = ("http:", "https:", "ftp:", "file:", "s3:", "gs:")


async def decode_images(values: Sequence[Any], name: str, most: int) -> list[bytes]:
    """Pictures of base64 texts.

    Args:
        values: each base64, or "data:image/png;base64,…".
        name: of the field that they came in.
        most: pictures.

    Raises:
        RequestError: more pictures than that, or values that are none (422); all of them are named by their positions.
    """
    if len(values) > most:
        message = f"{len(values)} images came; at most {most} are taken in a request."
        raise RequestError("Validation", message, param=name)
    if sum(len(value) for value in values if isinstance(value, str)) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(_decode, values, name)
    return _decode(values, name)


def _decode(values: Sequence[Any], name: str) -> list[bytes]:
    images: list[bytes] = []
    refused: list[RefusedItem] = []
    for index, value in enumerate(values):
        try:
            images.append(_decoded(value))
        except ValueError as error:
            refused.append(RefusedItem(index, str(error)))
    if refused:
        what = refused[0].reason if len(values) == 1 else f"{len(refused)} of {len(values)} images cannot be used"
        raise RequestError("Validation", f"`{name}`: {what}.", items=refused, param=name)
    return images


def _decoded(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("a base64 text is expected")
    start = value[:6].lower()
    if start.startswith(_SCHEMES) or value.startswith("//"):
        raise ValueError("the server fetches no URLs; send the picture itself, as base64 or a data: URL")
    if start.startswith("data:"):
        head, comma, value = value.partition(",")
        kind, *parameters = head[5:].lower().split(";")
        if not comma or "base64" not in (each.strip() for each in parameters):
            raise ValueError("a data: URL of base64 is expected, such as data:image/png;base64,…")
        if kind.strip() not in ("", *IMAGE_TYPES, "image/jpg"):
            raise ValueError("the media type of the data: URL is not one of image/png, image/jpeg, application/dicom")
    decoded = _base64(value)
    if not decoded:
        raise ValueError("it is empty")
    return decoded


def _base64(value: str) -> bytes:
    """Strict, but for white space, which tools put between lines."""
    reason = "it is no base64"
    if not value.isascii():
        raise ValueError(reason)
    if any(space in value for space in " \r\n\t"):
        value = "".join(value.split())
    whole = io.BytesIO()
    try:
        for start in range(0, len(value), _PIECE):
            piece = value[start : start + _PIECE]
            decoded = base64.b64decode(piece, validate=True)
            if start + _PIECE < len(value) and len(decoded) * 4 != len(piece) * 3:  # padding within
                raise ValueError(reason)
            whole.write(decoded)
    except binascii.Error:
        raise ValueError(reason) from None
    return whole.getvalue()
