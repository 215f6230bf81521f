"""Bodies of requests, bounded in size while they are received; the connection bounds their time."""

from __future__ import annotations

import asyncio
import io
import zlib
from collections.abc import AsyncIterator

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from runtime.serve.request_errors import RequestError

__all__ = ["body_chunks", "inflated", "media_type", "read_body", "refuse_encodings", "whole_number"]

_PIECE = 1 << 20
_DIGITS = 18
# Of zlib: what tells gzip from zlib's own format.
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def media_type(request: Request) -> tuple[str, dict[str, str]]:
    """The media type of a body in lower case, "" where none is given, and its parameters."""
    try:
        name, parameters = parse_options_header(request.headers.get("content-type", ""))
    except ValueError:  # of some releases, for characters that no header has
        return "", {}
    return name.decode("latin-1").lower(), {
        key.decode("latin-1"): value.decode("latin-1") for key, value in parameters.items()
    }


def whole_number(value: str) -> int | None:
    """A number from 0 as a client wrote it; None for anything else. Python refuses to read thousands of digits."""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= _DIGITS else None


def refuse_encodings(request: Request) -> None:
    """Raise RequestError (415) for a compressed body: how large it becomes is not known before it is inflated."""
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise RequestError(
            "UnsupportedMediaType",
            "Compressed bodies are not read here. Send the body as it is, without Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )


async def body_chunks(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body as it comes.

    Args:
        request: whose.
        most: bytes.

    Raises:
        RequestError: it is larger (413), as soon as that is known.
    """
    too_large = RequestError(
        "TooLarge",
        f"The body has more than {most:,} bytes, which is the most that is read here. Send fewer items a request.",
        headers={"Connection": "close"},
    )
    told = whole_number(request.headers.get("content-length", ""))
    if told is not None and told > most:
        raise too_large
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise too_large
        if chunk:
            yield chunk


async def read_body(request: Request, most: int) -> bytes:
    """The whole body, as `body_chunks` gives it."""
    # Joining 60 MB at the end would hold up the loop for 100 ms; a stream grows in place and gives its own buffer.
    whole = io.BytesIO()
    async for chunk in body_chunks(request, most):
        whole.write(chunk)
    return whole.getvalue()


async def inflated(body: bytes, encoding: str, most: int) -> bytes:
    """A body that was sent compressed.

    Args:
        body: as it came.
        encoding: "gzip" or "deflate"; "" or "identity" for none.
        most: bytes that it may become.

    Raises:
        RequestError: another encoding (415), no such data (400), more bytes than that (413).
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise RequestError("UnsupportedMediaType", "The Content-Encoding is not known here; gzip and deflate are.")
    return await asyncio.to_thread(_inflate, body, _WINDOW_BITS[encoding], most)


def _inflate(body: bytes, window_bits: int, most: int) -> bytes:
    pieces, size = [], 0
    stream = zlib.decompressobj(window_bits)
    try:
        while not stream.eof:
            piece = stream.decompress(body, _PIECE)
            body = stream.unconsumed_tail
            size += len(piece)
            pieces.append(piece)
            if size > most:
                raise RequestError("TooLarge", f"The body inflates to more than {most:,} bytes. Send fewer items.")
            if not piece and not body and not stream.eof:
                raise zlib.error
    except zlib.error:
        raise RequestError("BadRequest", "The body is not what its Content-Encoding says, or is cut off.") from None
    return b"".join(pieces)
