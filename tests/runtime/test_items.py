"""Rows of Parquet files, read as those of CSV and JSON lines are."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from runtime.errors import InputError, MissingExtraError
from runtime.items import Items, collect_items

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
