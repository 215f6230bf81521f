"""Tables and lines of text. The independent readers are Python's csv and json, and pyarrow's whole tables.

Any bytes come out as what those read, as a reject, or as a refusal that these modules can give a reason for; never as
another exception, and never as a shorter text.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from hypothesis import strategies as st

from runtime.files import Unusable
from runtime.files.tables import TABLES, count_lines, read_lines, read_rows
from tests.fuzz.property import Property, scratch_folder

__all__ = ["PROPERTIES"]

_WANTED = ("text", "id")
_MARK = b"\xef\xbb\xbf"
_BAD_TEXT = re.compile("[\0\ud800-\udfff]")
# What tells another kind of file, stated apart from the reader: UTF-16 and UTF-32, packers, workbooks, Parquet.
_OTHER = re.compile(
    rb"\xff\xfe|\xfe\xff|\0\0|.\0|\0.|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z|PK|\xd0\xcf|PAR1", re.DOTALL
)

_PIECES = st.sampled_from(
    (
        *(b",", b",", b'"', b'"', b'""', b"\n", b"\n", b"\r", b"\r\n", b"a", b"text", b"id", b" ", b";", b"1"),
        *(b"\xff", b"\0", b"\xef\xbb\xbf", "é\u2028\x85".encode(), b"\x0c", b'"x"', b'"x,\ny"', b"x,y\n", b'1,"x"\n'),
    )
)
_FILES = st.builds(
    lambda head, pieces: head + b"".join(pieces),
    st.sampled_from([b"", b"id,text\n", b"id,text,note\r\n", b'\xef\xbb\xbftext,"id"\n', b"text,id,note,note\n"]),
    st.lists(_PIECES, max_size=30),
)


def check_csv(content: bytes) -> None:
    """Rows are those of Python's csv in its strict mode; a row with too many or too few fields is a reject."""
    if b"\0" in content and sys.version_info < (3, 11):
        return  # where csv refuses NUL
    path = _write(".csv", content)
    expected = _python_csv(content)
    found = _read(path)
    if found is None:
        assert expected is None or _may_refuse(content, expected)
        return
    assert expected is not None
    header, *rows = expected or [[]]
    assert TABLES[".csv"].count(path) == len(found) == len(rows)
    assert [number for number, _ in found] == list(range(1, len(rows) + 1))
    for (_, row), fields in zip(found, rows, strict=True):
        if len(fields) != len(header):
            assert isinstance(row, Unusable)
            continue
        for name in _WANTED:
            _same_cell(row, name, fields[header.index(name)])


def _python_csv(content: bytes) -> list[list[str]] | None:
    stream = io.TextIOWrapper(io.BytesIO(content.removeprefix(_MARK)), "utf-8", "surrogateescape", newline="")
    try:
        return [row for row in csv.reader(stream, strict=True) if row]
    except csv.Error:
        return None


def _may_refuse(content: bytes, expected: list[list[str]]) -> bool:
    """Another kind of file; a column that is not there, or twice; a record over lines that is none of the header's."""
    header, *rows = expected or [[]]
    swallowed = any(len(row) != len(header) and any(re.search("[\r\n]", cell) for cell in row) for row in rows)
    return _is_other(content) or swallowed or any(header.count(name) != 1 for name in _WANTED)


def _is_other(content: bytes) -> bool:
    return bool(_OTHER.match(content.removeprefix(_MARK)))


def _same_cell(row: Any, name: str, value: Any) -> None:
    if isinstance(value, str) and _BAD_TEXT.search(value):
        assert isinstance(row[name], Unusable)
    elif isinstance(value, (list, dict)):
        assert isinstance(row[name], type(value))
    else:
        assert row[name] == value or (value != value and row[name] != row[name])


_CELLS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**700, "\ud800", "a\0", "x" * 3000, "\u2028", "\x85"])
)
_VALUES = st.recursive(
    _CELLS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
_OBJECTS = st.lists(st.tuples(st.sampled_from(["text", "id", "note"]), _VALUES), max_size=4).map(
    lambda pairs: "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs) + "}"
)
_LINES = st.one_of(
    _OBJECTS.map(str.encode),
    _VALUES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=12),
    st.sampled_from(
        [b"", b" ", b"[" * 50_000, b'{"text": "caf\xe9", "id": 1}', b'{"text":\x0c"x"}', b"\xef\xbb\xbf{}"]
    ),
)
_JSON_LINES = st.builds(
    lambda mark, lines: mark + b"".join(line + end for line, end in lines),
    st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(_LINES, st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])), max_size=6),
)


def check_json_lines(content: bytes) -> None:
    """Each line is what json.loads makes of it, with names given twice a reject."""
    path = _write(".jsonl", content)
    lines = _lines(content)
    objects = {number: _object(line) for number, line in enumerate(lines, 1) if line.strip(" \t")}
    rows = _read(path)
    if rows is None:
        first = next((dict(pairs) for pairs in objects.values() if pairs is not None), None)
        assert _is_other(content) or (first is not None and not set(_WANTED) <= first.keys())
        return
    found = dict(rows)
    assert list(found) == list(objects)
    assert TABLES[".jsonl"].count(path) == len(objects)
    for number, pairs in objects.items():
        row = _each_once(pairs)
        if row is None:
            assert isinstance(found[number], Unusable)
            continue
        for name in set(_WANTED) & row.keys():
            if isinstance(row[name], int) and abs(row[name]) >= 10**640:
                assert isinstance(found[number][name], Unusable)
            else:
                _same_cell(found[number], name, row[name])


def _object(line: str) -> list[tuple[str, Any]] | None:
    """Names and values of an object, as often as they are there; None where there is none."""
    pairs: list[tuple[str, Any]] = []

    def note(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object comes last
        return dict(found)

    try:
        row = json.loads(line, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return None
    return pairs if isinstance(row, dict) else None


def _each_once(pairs: list[tuple[str, Any]] | None) -> dict[str, Any] | None:
    names = [name for name, _ in pairs or ()]
    return None if pairs is None or any(names.count(name) > 1 for name in _WANTED) else dict(pairs)


def _lines(content: bytes) -> list[str]:
    """Split at \\n, \\r\\n and \\r alone, which a regular expression says apart from Python's streams."""
    text = content.removeprefix(_MARK).decode("utf-8", "surrogateescape")
    lines = re.split("\r\n|\r|\n", text)
    return lines if lines[-1] else lines[:-1]


def check_plain_text(content: bytes) -> None:
    """A text a line, split at line ends alone."""
    path = _write(".txt", content)
    try:
        found = [item.value for item in read_lines(path)]
    except ValueError:
        found = None
    if found is None:
        assert _is_other(content)
        return
    lines = _lines(content)
    assert count_lines(path) == len(found) == len(lines)
    for value, line in zip(found, lines, strict=True):
        assert isinstance(value, Unusable) if _BAD_TEXT.search(line) else value == line


def check_parquet(content: bytes) -> None:
    """What pyarrow reads at once, where it reads the file at all."""
    path = _write(".parquet", content)
    found = _read(path)
    if found is None:
        return
    table = pyarrow.parquet.read_table(io.BytesIO(content), columns=list(_WANTED))
    assert TABLES[".parquet"].count(path) == len(found) == table.num_rows
    for name in _WANTED:
        for (_, row), scalar in zip(found, table[name], strict=True):
            try:
                value = scalar.as_py()
            except Exception:
                assert isinstance(row[name], Unusable)
            else:
                _same_cell(row, name, value)


def _parquet_files() -> list[bytes]:
    texts = ["No effusion,\nno edema", "a\0b", None, "", "Café"]
    columns: list[dict[str, Any]] = [
        {"text": texts, "id": [1, 2, None, 4, 5]},
        {"text": pyarrow.array(texts).dictionary_encode(), "id": [b"a", b"b", None, b"", b"\xff"]},
        {
            "text": pyarrow.array(texts, pyarrow.large_string()),
            "id": pyarrow.array([2**40] * 5, pyarrow.timestamp("s")),
        },
        {"text": [[text] for text in texts], "id": [{"a": text} for text in texts], "text.list": texts},
        {"note": texts, "id": [1.5, float("nan"), None, 0.0, 5.0]},
    ]
    files = []
    for each in columns:
        stream = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(each), stream, row_group_size=2, compression="none")
        files.append(stream.getvalue())
    return files


def _read(path: Path) -> list[tuple[int, Any]] | None:
    """Every row, or None where the file is refused."""
    try:
        return list(read_rows(path, _WANTED))
    except ValueError:
        return None


def _write(suffix: str, content: bytes) -> Path:
    path = scratch_folder() / f"table{suffix}"
    path.write_bytes(content)
    return path


PROPERTIES = {
    "csv": Property(_FILES | st.binary(max_size=64), check_csv),
    "json lines": Property(_JSON_LINES, check_json_lines),
    "plain text": Property(_FILES | st.binary(max_size=64), check_plain_text),
    "parquet": Property(None, check_parquet, _parquet_files),
}
