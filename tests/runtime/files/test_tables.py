"""The one reader of tables: what is a row, what is a reject and what is refused, in every format and every command."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from runtime.__main__ import main
from runtime.archive import find_items
from runtime.errors import InputError
from runtime.files import Columns, Item, Unusable, read_json
from runtime.files.csv_records import read_records
from runtime.files.tables import check_columns
from tests.conftest import System

pyarrow = pytest.importorskip("pyarrow")
arrow_csv = pytest.importorskip("pyarrow.csv")
parquet = pytest.importorskip("pyarrow.parquet")


def items(path: Path, content: str | bytes, **columns: str) -> list[Item]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    stream = find_items([str(path)], [], Columns(**columns))
    found = list(stream)
    assert stream.total == len(found), "counted as they are read"
    return found


def refused(path: Path, content: str | bytes, **columns: str) -> str:
    with pytest.raises(InputError) as caught:
        items(path, content, **columns)
    return str(caught.value)


def reason(item: Item) -> str:
    assert isinstance(item.value, Unusable)
    return item.value.reason


def records(text: str) -> list[list[str]]:
    return [record.fields for record in read_records(iter(text.splitlines(keepends=True)))]


def test_csv_is_what_other_readers_make_of_it(tmp_path: Path) -> None:
    """Python's csv on odd cells, and pyarrow on a table of a thousand rows; both by way of a file."""
    cells = [
        "",
        "a",
        " b ",
        "c,d",
        'e"f',
        '"g"',
        "h\ni",
        "j\r\nk",
        "l\rm",
        'n""o',
        "\u2028\x85\x0c",
        "ä" * 9,
        "'",
        "\t",
    ]
    rng = np.random.default_rng(0)
    rows = [[cells[index] for index in rng.integers(0, len(cells), 3)] for _ in range(1000)]
    for end in ("\n", "\r\n", "\r"):
        stream = io.StringIO(newline="")
        csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("id", "text", "note"), *rows])
        path = tmp_path / "a.csv"
        found = items(path, stream.getvalue())
        assert [item.value for item in found] == [row[1] for row in rows]
        options = arrow_csv.ParseOptions(newlines_in_values=True)
        strings = arrow_csv.ConvertOptions(column_types={"text": pyarrow.string()}, strings_can_be_null=False)
        table = arrow_csv.read_csv(path, parse_options=options, convert_options=strings)
        assert table["text"].to_pylist() == [item.value for item in found]


def test_a_row_with_more_or_fewer_fields_is_a_reject_by_number(tmp_path: Path) -> None:
    content = 'id,text\n1,No effusion, but a large pneumothorax\n\n2,"Clear lungs,\nno edema"\n3\n4,\n5,x,\n'
    path = tmp_path / "a.csv"
    found = items(path, content, id="id")
    assert [item.id for item in found] == [f"{path}:1", "2", f"{path}:3", "4", f"{path}:5"]
    assert reason(found[0]).startswith("has 3 fields where the header has 2 (line 2). A text with a comma")
    assert reason(found[2]).startswith("has 1 field where the header has 2 (line 6). A text with a line break")
    assert "has 3 fields" in reason(found[4])
    assert [found[1].value, found[3].value] == ["Clear lungs,\nno edema", ""]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('1,a\n2,"Heart enlarged\n3,b\n4,c\n', "near line 3 (the quote that opens there never closes)"),
        ('1,"a\nb"\n2,"c\n', "near line 4 (the quote that opens there never closes)"),
        ('1,a\n2,"b\n3,c\n4,"d"\n', "near line 3 (the quote that opens there closes in line 5 before 'd'"),
        ('1,"a" b\n', "near line 2 (the quote that opens there closes before ' '"),
        ('1,"a \\"b\\" c"\n', "near line 2 (the quote that opens there closes before 'b'"),
        (
            '1,"a\n2,b\n3,",c\n',
            "near line 2 (the quote that opens there closes in line 4 and has rows in it: it makes 3",
        ),
        (
            '1,"a"\n"2,b\n3,c"\n',
            "near line 3 (the quote that opens there closes in line 4 and has rows in it: it makes 1",
        ),
    ],
)
def test_a_quote_swallows_no_rows(tmp_path: Path, rows: str, message: str) -> None:
    assert f"is not valid CSV {message}" in refused(tmp_path / "a.csv", f"id,text\n{rows}")


def test_a_quote_in_a_cell_without_quotes_is_a_character() -> None:
    text = 'id,text\n1,5" tube\n2, "x"\n3,a"\n4,"say ""no"""\n5,""""\n'
    assert records(text) == list(csv.reader(io.StringIO(text), strict=True))


def test_an_open_quote_is_found_before_anything_is_computed(tiny: System, tmp_path: Path, capsys) -> None:
    path, out = tmp_path / "a.csv", tmp_path / "parts"
    path.write_text(
        'id,text\n1,"Heart enlarged\n' + "".join(f"{number},Report {number}\n" for number in range(2, 1000))
    )
    assert main(["embed", str(tiny.bundle), str(path), "--out", str(out)]) == 1
    assert "near line 2" in capsys.readouterr().err
    assert not out.exists()


def test_cells_of_any_size_are_read_and_the_limit_of_the_process_is_not_touched(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    large = "0" * (before + 1)
    path = tmp_path / "a.csv"
    assert [item.value for item in items(path, f'pixels,text\n{large},a\n"{large}",b\nx,{large}\n')] == [
        "a",
        "b",
        large,
    ]
    assert csv.field_size_limit() == before


def test_a_column_that_is_there_twice_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert "has the column 'text' 2 times" in refused(path, "text,text\na,b\n")
    assert "has the column 'id' 2 times" in refused(path, "id,id,text\n1,2,a\n", id="id")
    assert [item.value for item in items(path, "id,id,,,text\n1,2,3,4,a\n")] == ["a"]
    table = pyarrow.table([["a"], ["b"], ["c"]], names=["text", "text", "note"])
    parquet.write_table(table, tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    assert "has the column 'text' 2 times" in refused(tmp_path / "a.parquet", content)
    assert [item.value for item in items(tmp_path / "a.parquet", content, text="note")] == ["c"]
    lines = '{"text": "a", "n": {"text": 1}, "n": 2}\n{"text": "a", "text": "b"}\n'
    found = items(tmp_path / "a.jsonl", lines)
    assert (found[0].value, reason(found[1])) == ("a", "line 2 has 'text' more than once")


def test_headers_that_lack_the_column_say_what_may_be_meant(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert "it has: id;text. Its columns are separated by ';', it seems" in refused(path, "id;text\n1;a\n")
    assert r"Its columns are separated by '\t', it seems" in refused(path, "id\ttext\n1\ta\n")
    assert "has no column 'text'; it has: ID, Text. Is 'Text' meant?" in refused(path, "ID,Text\n1,a\n")
    assert "it has: id,  text. Is ' text' meant?" in refused(path, "id, text\n1,a\n")
    assert [item.value for item in items(path, "\n\r\nid,text\n\n1,a\n\n")] == ["a"], "empty lines are no rows"
    for empty in ("", "\n\n", "id,text\n"):
        assert "holds nothing to embed" in refused(path, empty)


def test_lines_end_where_python_ends_them_and_nowhere_else(tmp_path: Path) -> None:
    inner = "a\x0cb\x0bc\x1cd\u2028e\u2029f\x85g"
    for end in ("\n", "\r\n", "\r"):
        for mark in (b"", b"\xef\xbb\xbf"):
            content = end.join([inner, "", "last"])
            assert [item.value for item in items(tmp_path / "a.txt", mark + content.encode())] == [inner, "", "last"]
            lines = end.join(json.dumps({"text": text}, ensure_ascii=False) for text in (inner[:-2], "last"))
            found = items(tmp_path / "a.jsonl", mark + lines.replace("\\f", "x").encode())
            assert [item.value for item in found][1:] == ["last"]
            table = end.join(["text,id", f"{inner},1", "last,2"])
            found = items(tmp_path / "a.CSV", mark + table.encode(), id="id")
            assert found == [Item("1", inner), Item("2", "last")]


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n1,a\n".encode("utf-16"), "is UTF-16 or UTF-32. Save it as UTF-8"),
        ("id,text\n1,a\n".encode("utf-16-be"), "is UTF-16 or UTF-32. Save it as UTF-8"),
        ("id,text\n1,a\n".encode("utf-32"), "is UTF-16 or UTF-32. Save it as UTF-8"),
        (gzip.compress(b"id,text\n1,a\n", mtime=0), "is compressed. Unpack it"),
        (b"PK\x03\x04\x14\0", "is an archive or a workbook"),
        (b"PAR1\x15", "is Parquet"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, suffix: str, content: bytes, message: str) -> None:
    assert message in refused(tmp_path / f"a{suffix}", content)


@pytest.mark.parametrize(
    "name", ["a.tsv", "a.xlsx", "a.json", "a.ndjson", "a.csv.gz", "a.CSV.GZ", "a.zip", "a.feather"]
)
def test_other_tables_are_refused_with_what_is_read(tmp_path: Path, name: str) -> None:
    message = refused(tmp_path / name, b"id\ttext\n")
    assert (
        f"is a {name[1:].lower().removeprefix('.csv')} file; of tables and texts .txt, .csv, .jsonl, .parquet"
        in message
    )


def test_bytes_and_characters_that_are_none_spoil_their_row(tmp_path: Path) -> None:
    rows = b"id,text,note\n1,caf\xe9,a\n2,b,\xe9\n\xe9,c,\n3,d\0e,\n4,f,\0\n"
    found = items(tmp_path / "a.csv", rows, id="id")
    assert [item.id for item in found] == ["1", "2", f"{tmp_path / 'a.csv'}:3", "3", "4"]
    assert [item.value for item in found if isinstance(item.value, str)] == ["b", "f"]
    assert "is not UTF-8" in reason(found[0])
    assert "its id in column 'id' is not UTF-8" in reason(found[2])
    assert "holds a NUL character" in reason(found[3])
    lines = rb'{"text": "\ud800"} {"text": "\u0000"} {"text": "\ud83d\ude00"} {"text": "a", "n": "\ud800"}'
    half, nul, whole, other = items(tmp_path / "a.jsonl", lines.replace(b"} {", b"}\n{"))
    assert r"holds half of a surrogate pair (\ud800)" in reason(half)
    assert "holds a NUL character" in reason(nul)
    assert (whole.value, other.value) == ("😀", "a")
    text, bad, null = items(tmp_path / "a.txt", b"a\ncaf\xe9\n\0\n")
    assert (text.value, "is not UTF-8" in reason(bad), "NUL" in reason(null)) == ("a", True, True)


def test_json_that_python_cannot_hold_spoils_its_row_where_it_is_asked_for(tmp_path: Path) -> None:
    deep = "[" * 100_000
    digits = "9" * 5000
    lines = [
        f'{{"text": "a", "n": {digits}}}',
        f'{{"text": {digits}}}',
        f'{{"text": "b", "n": {deep}}}',
        deep,
        '{"text": "c", "n": NaN}',
    ]
    found = items(tmp_path / "a.jsonl", "\n".join(lines))
    assert [found[0].value, found[4].value] == ["a", "c"]
    assert "holds a number of more digits than are read" in reason(found[1])
    assert "line 3 is not valid JSON" in reason(found[2])
    assert "line 4 is not valid JSON" in reason(found[3])


def test_ids_are_texts_or_numbers(tmp_path: Path) -> None:
    values = ["7", '"seven"', "null", '" "', "[1]", "{}", "NaN", "1e999", "7.5"]
    found = items(tmp_path / "a.jsonl", "\n".join(f'{{"text": "a", "id": {value}}}' for value in values), id="id")
    assert [item.id for item in found if item.value == "a"] == ["7", "seven", "7.5"]
    assert [number for number, item in enumerate(found) if "has no id in column 'id'" in str(item.value)] == [
        2,
        3,
        6,
        7,
    ]
    assert "has a list in column 'id'; an id is a text or a number" in reason(found[4])


def test_types_of_parquet(tmp_path: Path) -> None:
    def read(columns: dict[str, object], **named: str) -> list[Item]:
        parquet.write_table(pyarrow.table(columns), tmp_path / "b.parquet")
        return items(tmp_path / "a.parquet", (tmp_path / "b.parquet").read_bytes(), **named)

    texts = ["a", None, "b", "a"]
    for kind in (pyarrow.string(), pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())):
        assert [item.value for item in read({"text": pyarrow.array(texts, kind)})] == texts
    ids = pyarrow.array([2**40, 1, None, 2], pyarrow.timestamp("s"))
    far, first, none, _ = read({"text": ["a"] * 4, "id": ids}, id="id")
    assert "cannot be read" in reason(far)
    assert first == Item("1970-01-01 00:00:01", "a")
    assert "has no id" in reason(none)
    bad = pyarrow.Array.from_buffers(pyarrow.string(), 2, pyarrow.array([b"a", b"\xff"]).buffers())
    good, spoilt = read({"text": bad})
    assert (good.value, "cannot be read" in reason(spoilt)) == ("a", True)
    nested = {"a": [{"b": "x"}], "c.d": ["flat"], "text": ["t"]}
    assert read(nested, text="c.d")[0].value == "flat"
    with pytest.raises(InputError, match=r"has no column 'a\.b'; it has: a, c\.d, text"):
        read(nested, text="a.b")


def test_a_table_of_embedded_types_is_refused_by_the_encoder(tiny: System, tmp_path: Path, capsys) -> None:
    parquet.write_table(pyarrow.table({"text": [b"No effusion"]}), tmp_path / "a.parquet")
    arguments = ["embed", str(tiny.bundle), str(tmp_path / "a.parquet"), "--out", str(tmp_path / "o.npy")]
    assert main(arguments) == 1
    assert "a bytes came where a str is expected" in capsys.readouterr().err


def test_what_a_folder_held_stays_when_a_table_breaks_later(tiny: System, tmp_path: Path, capsys) -> None:
    path, out = tmp_path / "a.parquet", tmp_path / "parts"
    texts = pyarrow.table({"text": [f"text {number % 7}" for number in range(2400)]})
    parquet.write_table(texts, path, row_group_size=1200, compression=None)
    whole = path.read_bytes()
    broken = bytearray(whole)
    start = parquet.read_metadata(path).row_group(1).column(0).data_page_offset
    broken[start : start + 12] = b"\xff" * 12
    path.write_bytes(broken)
    status = path.stat()
    arguments = ["embed", str(tiny.bundle), str(path), "--out", str(out), "--part-rows", "400"]
    assert main(arguments) == 1
    assert f"{path}: is not valid Parquet" in capsys.readouterr().err
    assert 0 < len(list(out.glob("part-*.parquet"))) < 6
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert main([*arguments, "--resume"]) == 0
    assert parquet.read_table(out).num_rows == 2400


def test_standard_input_is_read_as_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines(content: bytes) -> Sequence[object]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return [item.value for item in find_items(["-"], [], Columns())]

    assert lines(b"\xef\xbb\xbfa\rb\r\nc\x0cd") == ["a", "b", "c\x0cd"]
    with pytest.raises(InputError, match="-: is UTF-16 or UTF-32"):
        lines("a\n".encode("utf-16"))


def test_standard_input_stays_open_for_who_stops_early(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO(b"a\nb\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
    rest = iter(find_items(["-"], [], Columns()))
    assert next(rest).value == "a"
    rest.close()
    assert not buffer.closed


@pytest.mark.parametrize(
    "content", ['{"inputs": "[MASK]"}'.encode("utf-16"), b'{"inputs": "caf\xe9 [MASK]"}', b"\x1f\x8b\x08"]
)
def test_json_input_that_is_no_utf8_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    for path in (tmp_path / "a.json", None):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        with pytest.raises(ValueError, match=r"is UTF-16|is not UTF-8 \(byte 0xe9 in line 1\)|is compressed"):
            read_json(path)


def test_columns_are_checked_whatever_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("id,Edema\na,1\n")
    check_columns(tmp_path / "labels", ["id"], ".csv")
    with pytest.raises(ValueError, match="has no column 'no'"):
        check_columns(tmp_path / "labels", ["no"], ".csv")
