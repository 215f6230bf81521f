"""Inputs → items: tables of three formats, columns of images, patterns; all of it one by one."""

from __future__ import annotations

import csv
import json
import sys
import tracemalloc
from pathlib import Path

import pytest

from runtime.archive import collect_items, find_items
from runtime.archive.items import Items
from runtime.errors import InputError, MissingExtraError
from runtime.files import Columns, Item, Unusable

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

TEXTS = ["No effusion,\nno edema.", "Clear.", "Café “quoted”, 胸部"]


def write(path: Path, **columns: object) -> str:
    parquet.write_table(pyarrow.table(columns), path)
    return str(path)


def read(name: str, column: str = "text", id_column: str | None = None) -> Items:
    return collect_items([name], [], column, id_column)


def refused(name: str, column: str = "text", id_column: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(name, column, id_column)
    assert len(caught.value.faults) == 1
    return str(caught.value)


def test_a_table_reads_the_same_from_every_format(tmp_path: Path) -> None:
    table = write(tmp_path / "a.parquet", key=["k1", "k2", "k3"], report=TEXTS)
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("key", "report"), *zip(("k1", "k2", "k3"), TEXTS, strict=True)])
    lines = (json.dumps({"key": f"k{index}", "report": text}) for index, text in enumerate(TEXTS, 1))
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    expected = Items("text", ["k1", "k2", "k3"], TEXTS)
    for name in (table, str(tmp_path / "a.csv"), str(tmp_path / "a.jsonl")):
        assert read(name, "report", "key") == expected


def test_rows_are_numbered_across_batches_and_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "A.PARQUET"
    texts = [f"text {index}" for index in range(3000)]
    parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=700)
    items = read(str(path))
    assert items.values == texts
    assert items.ids == [f"{path}:{number}" for number in range(1, 3001)]


def test_other_columns_are_not_touched(tmp_path: Path) -> None:
    """Their values need not even be ones that Python can hold."""
    impossible = pyarrow.array([2**40] * 3, pyarrow.timestamp("s"))
    with pytest.raises(OverflowError):
        impossible.to_pylist()
    name = write(tmp_path / "a.parquet", text=TEXTS, taken=impossible, id=[7, 8, 9])
    assert read(name, id_column="id") == Items("text", ["7", "8", "9"], TEXTS)


def test_what_is_no_text_is_kept_for_the_encoder_to_refuse(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.parquet", text=["x", None])).values == ["x", None]
    assert read(write(tmp_path / "b.parquet", text=[1.5, 2.5])).values == [1.5, 2.5]


def test_unusable_files_are_named_with_the_reason(tmp_path: Path) -> None:
    good = write(tmp_path / "a.parquet", note=TEXTS, id=["", "b", "c"])
    assert refused(good) == f"{good}: has no column 'text'; it has: note, id"
    assert "has no column 'key'" in refused(good, "note", "key")
    assert "row 1 has no id in column 'id'" in refused(good, "note", "id")
    assert "holds nothing to embed" in refused(write(tmp_path / "empty.parquet", text=pyarrow.array([], "string")))
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"text\nNo effusion.\n")
    assert f"{broken}: is not valid Parquet" in refused(str(broken))
    content = bytearray(Path(good).read_bytes())
    content[4:40] = b"\xff" * 36  # the header of the first page
    broken.write_bytes(content)
    assert f"{broken}: is not valid Parquet" in refused(str(broken), "note")
    assert "No such file" in refused(str(tmp_path / "absent.parquet"))
    (tmp_path / "spark.parquet").mkdir()
    assert "Is a directory" in refused(str(tmp_path / "spark.parquet"))


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write(tmp_path / "a.parquet", text=TEXTS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"Reading .*a\.parquet needs .*pip install 'cxr-engine\[parquet\]'"):
        read(name)


def find(*names: object, **columns: str) -> list[Item]:
    return list(find_items(list(map(str, names)), [], Columns(**columns)))


@pytest.mark.slow
def test_a_long_table_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """Each of the tables has 20 MB of texts, and pyarrow's own memory is not counted: it reads row groups."""
    text = "no effusion " * 80
    rows = 20_000
    with (tmp_path / "a.csv").open("w") as stream:
        stream.write("text\n" + f"{text}\n" * rows)
    with (tmp_path / "a.jsonl").open("w") as stream:
        stream.write(f"{json.dumps({'text': text})}\n" * rows)
    (tmp_path / "a.txt").write_text(f"{text}\n" * rows)
    parquet.write_table(pyarrow.table({"text": [text] * rows}), tmp_path / "a.parquet", row_group_size=1000)
    for suffix in ("csv", "jsonl", "txt", "parquet"):
        tracemalloc.start()
        stream = find_items([str(tmp_path / f"a.{suffix}")], [], Columns())
        count = sum(1 for _ in stream)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == stream.total == rows
        assert peak < 4_000_000, suffix


def test_rows_are_counted_as_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\n"one\nand a half"\n\ntwo\n')
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n  \n{"text": "two"}')
    (tmp_path / "a.txt").write_bytes(b"one\r\n\r\ntwo")
    for name, count in (("a.csv", 2), ("a.jsonl", 2), ("a.txt", 3)):
        stream = find_items([str(tmp_path / name)], [], Columns())
        assert len(list(stream)) == stream.total == count


def test_patterns_take_every_image_that_matches_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a/b").mkdir(parents=True)
    for name in ("a/2.png", "a/1.jpg", "a/[x].png"):
        Path(name).touch()  # their names claim it
    Path("a/b/IM0001").write_bytes(b"\0" * 128 + b"DICM")
    assert [item.id for item in find("a/**/*")] == ["a/1.jpg", "a/2.png", "a/[x].png", "a/b/IM0001"]
    assert [item.id for item in find("a/[x].png")] == ["a/[x].png"], "a file of that very name goes first"
    assert [item.id for item in find(str(tmp_path / "a" / "[12].*"))] == [f"{tmp_path}/a/1.jpg", f"{tmp_path}/a/2.png"]
    Path("b-1.txt").write_text("one")
    Path("b-0.txt").write_text("zero")
    assert find("b-*.txt") == [Item("b-0.txt:1", "zero"), Item("b-1.txt:1", "one")]
    with pytest.raises(InputError, match=r"\*\.tif: matches no file"):
        find("a/*.tif")
    with pytest.raises(InputError, match=r"Images .* and texts .* came together"):
        find("*/*.png", "b-*.txt")


def test_a_pattern_reads_texts_where_it_asks_for_them_or_finds_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r").mkdir()
    Path("r/a.txt").write_text("one")
    Path("r/b.csv").write_text("text\ntwo\n")
    Path("r/c.md").write_text("three")
    both = [Item("r/a.txt:1", "one"), Item("r/b.csv:1", "two")]
    assert find("r/*") == both
    assert [record.getMessage() for record in caplog.records] == ["1 file is passed over: no image: 1 (r/c.md)"]
    caplog.clear()
    Path("r/d.png").touch()
    assert find("r/*") == find("r") == [Item("r/d.png", "r/d.png")]
    assert {record.getMessage() for record in caplog.records} == {
        "3 files are passed over: no image: 3 (r/a.txt, r/b.csv, r/c.md)"
    }
    assert find("r/*.txt") == both[:1]
    Path("r/e.csv").write_text("file\nd.png\n")
    assert [item.value for item in find("r/[de].*", image="file")] == ["r/d.png", "r/d.png"]
    with pytest.raises(InputError, match=r"r/\*\.md: holds nothing to embed: 1 file is passed over: no image"):
        find("r/*.md")


def test_columns_of_images_are_relative_to_their_table(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.csv").write_text("file,key\nx/1.png,k1\n/abs/2.png,k2\n,k3\n")
    (tmp_path / "t" / "a.jsonl").write_text('{"file": "x/1.png"}\n{"file": "/abs/2.png"}\n{"file": 7}\n')
    table = write(tmp_path / "t" / "a.parquet", file=["x/1.png", "/abs/2.png", None])
    for name in (tmp_path / "t" / "a.csv", tmp_path / "t" / "a.jsonl", table):
        first, second, third = find(name, image="file")
        assert first == Item("x/1.png", str(tmp_path / "t" / "x" / "1.png"))
        assert second == Item("/abs/2.png", "/abs/2.png")
        assert third == Item(f"{name}:3", Unusable("row 3 has no path of an image in column 'file'"))
    assert [item.id for item in find(tmp_path / "t" / "a.csv", image="file", id="key")] == ["k1", "k2", "k3"]
    assert find_items([table], [], Columns(image="file")).part == "image"
    with pytest.raises(InputError, match="lines of text, but --image-column asks for images"):
        find("-", image="file")


def test_a_bad_row_spoils_itself_only(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        b'{"text": "one"}\n{"text": \n[1]\n{"t": 1}\n{"text": "caf\xe9"}\n{"text": "six"}'
    )
    found = [item.value for item in find(tmp_path / "a.jsonl")]
    assert (found[0], found[5]) == ("one", "six")
    reasons = ["line 2 is not valid JSON", "line 3 is not a JSON object", "row 4 has no column 'text'", "is not UTF-8"]
    for value, reason in zip(found[1:5], reasons, strict=True):
        assert reason in value.reason
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,one\n2,caf\xe9\n,three\n4,four\n")
    one, two, three, four = find(tmp_path / "a.csv", id="id")
    assert (one, four) == (Item("1", "one"), Item("4", "four"))
    assert (two.id, "is not UTF-8" in two.value.reason) == ("2", True)
    assert three == Item(f"{tmp_path / 'a.csv'}:3", Unusable("row 3 has no id in column 'id'"))


def test_what_breaks_off_in_the_middle_names_the_file(tmp_path: Path) -> None:
    name = write(tmp_path / "a.parquet", text=TEXTS)
    stream = find_items([name], [], Columns())
    Path(name).write_bytes(b"overwritten meanwhile")
    with pytest.raises(InputError, match=r"a\.parquet: is not valid Parquet"):
        list(stream)


def test_missing_files_are_told_from_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no such file or folder. Is it a text"):
        find("No effusion")
    assert find(tmp_path / "absent.png")[0].value == str(tmp_path / "absent.png"), "one among many is a bad item"
    closed = tmp_path / "closed"
    (closed / "more").mkdir(parents=True)
    with pytest.raises(InputError, match="holds nothing to embed"):
        find(closed)
