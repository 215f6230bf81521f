"""`multipart/form-data`, parsed as it comes and kept in memory: what is spooled leaves patient data on the disk."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from runtime.serve.request_errors import RequestError

__all__ = ["Part", "read_multipart"]

# RFC 2046, section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")
_HEADERS = 16
_HEADER_BYTES = 8 << 10
# It warns of what it refuses, which is told to the client.
logging.getLogger("python_multipart.multipart").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Part:
    """One part of a form.

    Attributes:
        name: of the field.
        data: its content.
        is_file: whether it came with a file name, which is not kept.
    """

    name: str
    data: bytes
    is_file: bool


async def read_multipart(chunks: AsyncIterator[bytes], boundary: str, most: int) -> list[Part]:
    """Parse a form.

    Args:
        chunks: of the body, bounded.
        boundary: of the Content-Type.
        most: parts.

    Returns:
        The parts in the order that they came.

    Raises:
        RequestError: no form, or one that is cut off (400); more parts than that (422).
    """
    if not _BOUNDARY.fullmatch(boundary):
        raise _malformed("its Content-Type has no boundary of 1 to 70 characters")
    form = _Form(most)
    parser = MultipartParser(
        boundary.encode("ascii"),
        {
            "on_part_begin": form.begin,
            "on_header_begin": form.header_begins,
            "on_header_field": form.header_name,
            "on_header_value": form.header_value,
            "on_header_end": form.header_ends,
            "on_headers_finished": form.headers_end,
            "on_part_data": form.content,
            "on_part_end": form.end,
            "on_end": form.close,
        },
    )
    try:
        async for chunk in chunks:
            parser.write(chunk)
        parser.finalize()
    except FormParserError:
        raise _malformed("it is no multipart form") from None
    if not form.closed:
        raise _malformed("it ends before its last boundary")
    return form.parts


def _malformed(why: str) -> RequestError:
    return RequestError("BadRequest", f"The form cannot be read: {why}.")


@dataclass
class _Form:
    """What the parser calls."""

    most: int
    parts: list[Part] = field(default_factory=list)
    closed: bool = False
    _content: io.BytesIO = field(default_factory=io.BytesIO)
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _header: tuple[bytes, bytes] = (b"", b"")
    _header_count: int = 0
    _header_bytes: int = 0
    _name: str = ""
    _is_file: bool = False

    def begin(self) -> None:
        if len(self.parts) == self.most:
            raise RequestError("Validation", f"The form has more than {self.most} parts. Send fewer items a request.")
        self._content, self._headers = io.BytesIO(), {}
        self._header_count = self._header_bytes = 0

    def header_begins(self) -> None:
        self._header = (b"", b"")
        self._header_count += 1
        self._bound()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_bytes += end - start
        self._bound()
        self._header = (self._header[0] + data[start:end], b"")

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_bytes += end - start
        self._bound()
        self._header = (self._header[0], self._header[1] + data[start:end])

    def header_ends(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]

    def headers_end(self) -> None:
        if self._headers.get(b"content-transfer-encoding", b"binary").lower() not in (b"binary", b"8bit", b"7bit"):
            raise _malformed("a part has a Content-Transfer-Encoding; parts are sent as they are")
        try:
            kind, parameters = parse_options_header(self._headers.get(b"content-disposition", b""))
            self._name = parameters[b"name"].decode("utf-8")
        except (KeyError, ValueError):
            raise _malformed("a part has no Content-Disposition with the name of its field") from None
        if kind != b"form-data":
            raise _malformed("a part has another Content-Disposition than form-data")
        self._is_file = b"filename" in parameters

    def content(self, data: bytes, start: int, end: int) -> None:
        self._content.write(memoryview(data)[start:end])

    def end(self) -> None:
        self.parts.append(Part(self._name, self._content.getvalue(), self._is_file))

    def close(self) -> None:
        self.closed = True

    def _bound(self) -> None:
        if self._header_count > _HEADERS or self._header_bytes > _HEADER_BYTES:
            raise _malformed(f"a part has more than {_HEADERS} headers or {_HEADER_BYTES:,} bytes of them")
