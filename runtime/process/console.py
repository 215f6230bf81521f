"""The one place that prints: results on standard output, notes on standard error. Standard input is asked for here too.

A command line runs inside `standard_streams`. Descriptor 1 then belongs to standard error, and only what this module
writes reaches standard output: no banner of a library, not even of one in C, gets between the lines of a result. A note
that cannot be written ends no work. Any text can be printed, whatever the encoding of the stream.
"""

from __future__ import annotations

import codecs
import errno
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TextIO, cast

from runtime.errors import InputError, StandardOutputError

__all__ = [
    "ReaderLeft",
    "note_stream",
    "print_json",
    "print_note",
    "print_result",
    "report_stream",
    "report_written",
    "result_descriptor",
    "result_stream",
    "standard_input",
    "standard_streams",
]

_STDOUT, _STDERR = 1, 2
# How typography is spelled where the encoding lacks it; what is not listed becomes an escape such as \u0107.
_SPELLINGS = {
    "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≈": "~", "×": "x", "·": "*", "±": "+/-", "−": "-", "–": "-", "—": "-",
    "…": "...", "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip
_SPELL = "cxr-engine-spell"

# Where results go while a command line runs; None outside.
_results: _Stream | None = None


class ReaderLeft(BrokenPipeError):  # noqa: N818 (no error: `head` has what it wants)
    """Who read standard output has gone, as `head` does: nothing is wrong, and nobody waits for the rest."""


class _Stream:
    """A text stream that can hold any text, in the place of a standard one."""

    def __init__(self, stream: TextIO | None, essential: bool) -> None:
        """Begin.

        Args:
            stream: what is written to; None where there is none.
            essential: raise what goes wrong; otherwise the text is lost, and all after it.
        """
        self._stream = stream
        self._essential = essential
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write text, with characters that the encoding lacks spelled or escaped.

        Raises:
            StandardOutputError, ReaderLeft: it cannot be written, and it is essential.
        """
        if self._stream is None:
            self._failed(OSError(errno.EBADF, "it is closed"))
            return len(text)
        try:
            self._stream.write(text.encode(self.encoding, _SPELL).decode(self.encoding))
        except (OSError, ValueError) as error:  # a closed stream raises ValueError
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written; raises as `write` does."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failed(error)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Its descriptor; raises io.UnsupportedOperation where it has none, as streams in memory do."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def holds(self, text: str) -> bool:
        """Whether the text can be written in UTF-8 as it is."""
        if codecs.lookup(self.encoding).name not in ("utf-8", "utf-8-sig"):
            return False
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return False
        return True

    def __getattr__(self, name: str) -> Any:
        # What else libraries ask of a standard stream: buffer, errors …
        return getattr(self._stream, name)

    def _failed(self, error: Exception) -> None:
        if self._stream is not None:
            _drop_unwritten(self._stream)
            self._stream = None
        if not self._essential:
            return
        if isinstance(error, BrokenPipeError):
            raise ReaderLeft(*error.args) from None
        reason = getattr(error, "strerror", None) or str(error)
        raise StandardOutputError(
            f"The result cannot be written to standard output: {reason}. Send it to a file or a program that takes it."
        ) from None


def print_result(text: str = "") -> None:
    """Print a line of what the user asked for.

    Raises:
        StandardOutputError: it cannot be written.
        ReaderLeft: nobody reads it any more.
    """
    _print(result_stream(), text)


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print JSON as a result, in UTF-8 where standard output is that, else in ASCII with escapes: nothing is changed.

    Numbers that are not finite, which JSON lacks, become null. Raises as `print_result` does.
    """
    value = _finite(value)
    stream = _results or _Stream(sys.stdout, essential=True)
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    _print(stream, text if stream.holds(text) else json.dumps(value, indent=indent, allow_nan=False))


def report_written(text: str) -> None:
    """Print a line about a file that was written; where standard output does not take it, it becomes a note."""
    try:
        print_result(text)
    except (StandardOutputError, ReaderLeft):
        print_note(text)


def print_note(text: str) -> None:
    """Print a line of what the user should know on standard error; never raises."""
    _print(note_stream(), text)


def note_stream() -> TextIO:
    """Standard error, for what writes by itself (a progress bar): writing never raises."""
    return cast(TextIO, sys.stderr if isinstance(sys.stderr, _Stream) else _Stream(sys.stderr, essential=False))


def report_stream() -> TextIO:
    """Standard output, for tables about files that were written: writing never raises."""
    return cast(TextIO, _Stream(_results._stream if _results else sys.stdout, essential=False))


def result_stream() -> TextIO:
    """Standard output, for tables that are the result: writing raises as `print_result` does."""
    return cast(TextIO, _results or _Stream(sys.stdout, essential=True))


def result_descriptor() -> int:
    """Where a process that is started may print its results: its `stdout`."""
    try:
        return result_stream().fileno()
    except (OSError, ValueError):
        return subprocess.DEVNULL


def standard_input() -> BinaryIO:
    """The bytes of standard input; says that it waits where that is a terminal.

    Raises:
        InputError: it is closed, or cannot be read.
    """
    stream: Any = sys.stdin
    if stream is None or stream.closed:
        raise InputError("Standard input (-) is closed. Give it a file or a pipe, as in: … - < texts.txt")
    if stream.isatty():
        end = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
        print_note(f"Reading lines from the terminal; {end} ends them.")
    try:
        if not hasattr(stream, "buffer"):  # a notebook's
            return io.BytesIO(stream.read().encode("utf-8", "surrogateescape"))
        if hasattr(stream.buffer, "peek"):
            stream.buffer.peek(1)
    except OSError as error:  # nohup gives one that can only be written
        reason = error.strerror or error
        raise InputError(f"Standard input (-) cannot be read: {reason}. Give it a file or a pipe.") from None
    return cast(BinaryIO, stream.buffer)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make the standard streams fit for a command line; all is as before afterwards.

    Descriptors 0 to 2 that are closed are opened on the null device: otherwise the next file that is opened gets such a
    number, and what libraries print goes into it.
    """
    global _results
    if _results is not None:
        yield
        return
    closed = _open_descriptors()
    before = sys.stdin, sys.stdout, sys.stderr
    # A stream whose descriptor was closed would now write to the null device as if all were well.
    given, out, err = (None if number in closed else stream for number, stream in enumerate(before))
    moved = _move_output(out)
    _results = _Stream(moved or out, essential=True)
    sys.stdin = cast(TextIO, given)
    sys.stdout = sys.stderr = cast(TextIO, _Stream(err, essential=False))
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        _results = None
        if moved is not None:
            os.dup2(moved.fileno(), _STDOUT)
            with suppress(OSError):
                moved.close()


def _print(stream: TextIO | _Stream, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


def _spell(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    spelled = (_SPELLINGS.get(each) or each.encode("ascii", "backslashreplace").decode("ascii") for each in lacking)
    return "".join(spelled), error.end


codecs.register_error(_SPELL, _spell)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def _open_descriptors() -> set[int]:
    """Open those of the standard streams that are closed; returns which were."""
    closed = set()
    for descriptor in range(_STDERR + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.add(descriptor)
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)
    return closed


def _move_output(stream: TextIO | None) -> TextIO | None:
    """Give descriptor 1 to standard error; returns a stream on what it was, or None where the stream is another."""
    try:
        if stream is None or stream.fileno() != _STDOUT:
            return None
        stream.flush()
    except (OSError, ValueError):  # a test's or a notebook's, or one that is closed
        return None
    kept = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    return os.fdopen(kept, "w", encoding=stream.encoding, errors=stream.errors)


def _drop_unwritten(stream: TextIO) -> None:
    """Let the null device take what a standard stream still holds: Python would try again, and complain, at its end."""
    with suppress(OSError, ValueError):
        if stream.fileno() not in (_STDOUT, _STDERR):
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)
        stream.flush()
