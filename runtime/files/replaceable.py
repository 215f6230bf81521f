"""Which files an output may replace: those that carry this program's mark, and others only where that is asked for.

What this program writes says so in a way that readers of the format do not see:

    .npy        the header ends in at least 128 spaces; NumPy's own has fewer than 100
    .ids.txt    as many lines as the .npy file beside it, which has the mark, has rows
    .parquet    the schema's metadata name the model, and the columns are `id` and `embedding`
    .csv        the header's first cell stands in quotes that it does not need, and the others do not
    .jsonl      a list of rejects: every line has `id`, `index` and `reason` and nothing else
    .png        the text chunk "Software"; .jpg a comment
    .html       the meta element "generator"; .md and .svg the same as a comment
    .json       begins as a report of `python -m bench` does

A tool that writes such a file anew leaves the mark out, so the file is that tool's from then on.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["COMMENT", "GENERATOR", "HTML_META", "NPY_PADDING", "csv_header", "obstacle", "real_path", "wrote"]

GENERATOR = "cxr-engine"
HTML_META = f'<meta name="generator" content="{GENERATOR}">'
COMMENT = f"<!-- generator: {GENERATOR} -->"
NPY_PADDING = 128

_CSV_HEAD = '"id"'
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_SHAPE = re.compile(rb"'shape': \((\d+),")
_PNG_SOFTWARE = b"tEXtSoftware\0" + GENERATOR.encode()
_JPEG_COMMENT = b"\xff\xfe" + (len(GENERATOR) + 2).to_bytes(2, "big") + GENERATOR.encode()
_REPORT = re.compile(rb'\{\s*"schema_version": \d+,\s*"created": ')
_REJECT = ["id", "index", "reason"]
_IDS = ".ids.txt"
# Marks of text formats and pictures stand in so many bytes at the beginning or the end.
_ENDS = 4096
# No line that this program writes is longer.
_LINE = 1 << 20
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
)


def real_path(out: Path) -> Path:
    """Where a file is written: of a symbolic link the file that it leads to, which may not be there yet."""
    return Path(os.path.realpath(out)) if out.is_symlink() else out


def obstacle(out: Path, replace: bool) -> str | None:
    """Why a file must not be written, in a sentence, or None where nothing is in the way.

    Args:
        out: the file to be written; of a symbolic link its target counts.
        replace: regular files are replaced, whoever wrote them.
    """
    try:
        mode = out.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:  # links in a circle, a name too long
        return f"{out} cannot be written: {error.strerror}."
    if not stat.S_ISREG(mode):
        what = next((name for test, name in _KINDS if test(mode)), "no regular file")
        return f"{out} cannot be written: it is {what}, and a result is a regular file."
    if replace:
        return None
    if not wrote(out):
        return f"{out} is there already, and this program did not write it."
    if not os.access(out, os.W_OK):
        return f"{out} is there already, and is protected from writing."
    return None


def wrote(path: Path) -> bool:
    """Whether a regular file carries this program's mark; a file that cannot be read carries none."""
    mark = _ids if path.name.endswith(_IDS) else _MARKS.get(path.suffix.lower())
    try:
        return mark is not None and mark(path)
    except (OSError, ValueError, RecursionError):
        return False


def csv_header(names: Sequence[str]) -> str:
    """The first line of a .csv file: the column of ids, with the mark, and those of that name."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(names)
    return f"{_CSV_HEAD},{line.getvalue()}"


def _ends(path: Path) -> bytes:
    with path.open("rb") as stream:
        first = stream.read(_ENDS)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(len(first), size - _ENDS))
        return first + stream.read()


def _npy(path: Path) -> bool:
    return _npy_header(path) is not None


def _npy_header(path: Path) -> bytes | None:
    with path.open("rb") as stream:
        start = stream.read(len(_NPY_MAGIC) + 2)
        header = stream.read(int.from_bytes(start[-2:], "little")) if start.startswith(_NPY_MAGIC) else b""
    return header if header.endswith(b" " * NPY_PADDING + b"\n") else None


def _ids(path: Path) -> bool:
    header = _npy_header(path.with_name(path.name.removesuffix(_IDS) + ".npy"))
    shape = _NPY_SHAPE.search(header or b"")
    if shape is None:
        return False
    with path.open("rb") as stream:
        return sum(1 for _ in stream) == int(shape[1])


def _parquet(path: Path) -> bool:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return False
    try:
        schema = pyarrow.parquet.read_schema(path)
    except pyarrow.ArrowException:
        return False
    return schema.names == ["id", "embedding"] and b"model_digest" in (schema.metadata or {})


def _csv(path: Path) -> bool:
    with path.open(encoding="utf-8", newline="") as stream:
        line = stream.readline(_LINE)
    if not line.startswith(f"{_CSV_HEAD},"):
        return False
    with contextlib.suppress(csv.Error, StopIteration):
        return line == csv_header(next(csv.reader([line]))[1:])
    return False


def _rejects(path: Path) -> bool:
    with path.open("rb") as stream:
        lines = 0
        while line := stream.readline(_LINE):
            found = json.loads(line)
            if not isinstance(found, dict) or list(found) != _REJECT:
                return False
            lines += 1
    return lines > 0


def _png(path: Path) -> bool:
    return _PNG_SOFTWARE in _ends(path)


def _jpeg(path: Path) -> bool:
    return _JPEG_COMMENT in _ends(path)


def _html(path: Path) -> bool:
    return HTML_META.encode() in _ends(path)


def _comment(path: Path) -> bool:
    return COMMENT.encode() in _ends(path)


def _report(path: Path) -> bool:
    return _REPORT.match(_ends(path)) is not None


_MARKS: dict[str, Callable[[Path], bool]] = {
    ".npy": _npy,
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _rejects,
    ".png": _png,
    ".jpg": _jpeg,
    ".html": _html,
    ".md": _comment,
    ".svg": _comment,
    ".json": _report,
}
