"""Text as it comes from files and pipes: UTF-8, with or without a byte-order mark, and nothing else.

One bad byte spoils the row it is in and not the file: it is kept as a lone surrogate (the error handler
"surrogateescape"), which `text_fault` finds. A line ends at \\n, \\r\\n or \\r, as for Python, and nowhere else: form
feeds, U+0085 and U+2028 belong to the text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

from runtime.process.console import standard_input

__all__ = ["decode_text", "open_text", "read_stdin", "text_fault", "text_stdin"]

_ENCODING, _ERRORS = "utf-8", "surrogateescape"
_MARK = "\ufeff"  # taken off here: as a stream's codec, "utf-8-sig" loses a file of the mark's first bytes
_LOOKED_AT = 16
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_NOT_UTF8 = "is not UTF-8. Save the file as UTF-8"
# First bytes of what people give in place of text. UTF-32's mark begins as UTF-16's does and has the same advice.
_OTHER_CONTENT = (
    (
        re.compile(rb"\xff\xfe|\xfe\xff|\0\0\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]|[^\0]\0\0\0|\0\0\0[^\0]"),
        "is UTF-16 or UTF-32. Save it as UTF-8",
    ),
    (re.compile(rb"\x1f\x8b|BZh[1-9]1AY&SY|\xfd7zXZ\0|\x28\xb5\x2f\xfd|7z\xbc\xaf"), "is compressed. Unpack it"),
    (re.compile(rb"PK\x03\x04|\xd0\xcf\x11\xe0"), "is an archive or a workbook. Save the table as CSV in UTF-8"),
    (re.compile(rb"PAR1[^ -~\n\r]"), "is Parquet. Give it a name that ends with .parquet"),
)


def text_fault(text: str) -> str | None:
    """Why a text cannot be used: bytes that are no UTF-8, half a character, a NUL; None where it can."""
    found = _NO_TEXT.search(text)
    if found is None:
        return None
    if found[0] == "\0":
        return "holds a NUL character. Remove it, or save the file as UTF-8 if it is in another encoding"
    if "\udc80" <= found[0] <= "\udcff":
        return _NOT_UTF8
    return f"holds half of a surrogate pair (\\u{ord(found[0]):04x}), which is no character. Write the file again"


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[Iterator[str]]:
    """Open a file and iterate over its lines.

    Args:
        path: the file.
        newline: None ends every line with \\n; "" keeps the line ends as they are.

    Raises:
        OSError: it cannot be read.
        ValueError: its first bytes are those of UTF-16, of a compressed file or of another format; the message says so.
    """
    with path.open(encoding=_ENCODING, errors=_ERRORS, newline=newline) as stream:
        yield _checked(stream)


@contextmanager
def text_stdin() -> Iterator[Iterator[str]]:
    """The lines of standard input, as `open_text` gives those of a file; standard input is left open."""
    stream = io.TextIOWrapper(standard_input(), encoding=_ENCODING, errors=_ERRORS)
    try:
        yield _checked(stream)
    finally:
        stream.detach()  # or standard input would be closed with it


def read_stdin() -> bytes:
    """All of standard input."""
    return bytes(standard_input().read())


def decode_text(content: bytes) -> str:
    """A whole file's text.

    Raises:
        ValueError: it is not UTF-8; the message says what it is, or where the first bad byte stands.
    """
    _check_start(content[:_LOOKED_AT])
    try:
        return content.decode(_ENCODING).removeprefix(_MARK)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"is not UTF-8 (byte 0x{content[error.start]:02x} in line {line}). Save it as UTF-8") from None


def _checked(stream: IO[str]) -> Iterator[str]:
    first = next(stream, "").removeprefix(_MARK)
    _check_start(first[:_LOOKED_AT].encode(_ENCODING, _ERRORS))
    # No generator: one that ends early would close what it yields from, standard input too.
    return chain([first] if first else [], stream)


def _check_start(start: bytes) -> None:
    for pattern, what in _OTHER_CONTENT:
        if pattern.match(start):
            raise ValueError(what)
