"""The texts that int8 is calibrated with and judged by: chosen once, never the same on both sides."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.checkpoints.tokenizer import write_tokenizer
from export.errors import CalibrationError
from export.samples import CalibrationData, chest_phantom, text_data
from export.samples.report_sentences import report_texts
from runtime.text import Tokenizer
from tests.runtime.parts import tokenization

FEW = {"count": 32, "held_out": 16}


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(tiny_checkpoint, json.loads((tiny_checkpoint / "config.json").read_text()), folder)
    return Tokenizer(folder, tokenization())


@pytest.fixture
def notes() -> list[str]:
    return []


def reports(number: int) -> list[str]:
    return [f"Nodule {index} in the left lower lobe is unchanged" for index in range(number)]


def write_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def same_texts(data: CalibrationData, other: CalibrationData) -> bool:
    return data.calibration == other.calibration and data.held_out == other.held_out


def together(data: CalibrationData) -> list[tuple[int, ...]]:
    return [tuple(ids) for ids in (*data.calibration, *data.held_out)]


def refused(source: Path | None, tokenizer: Tokenizer, **options: object) -> str:
    with pytest.raises(CalibrationError) as caught:
        text_data(source, tokenizer, note=lambda text: None, **options)
    return str(caught.value)


def test_built_in_texts_are_many_distinct_and_divided(tokenizer: Tokenizer, notes: list[str]) -> None:
    data = text_data(None, tokenizer, note=notes.append)
    assert (len(data.calibration), len(data.held_out)) == (300, 300) == (data.record.items, data.record.held_out)
    assert len(set(together(data))) == 600
    assert (data.record.kind, data.record.name, data.record.seed) == ("built-in", "built-in", 0)
    assert data.record.sha256 != data.record.held_out_sha256
    assert len(notes) == 1
    assert "holds for those alone" in notes[0]
    assert "--calibration-text FILE" in notes[0]


def test_the_seed_decides_everything(tokenizer: Tokenizer, tmp_path: Path, notes: list[str]) -> None:
    for source in (None, write_lines(tmp_path / "a.txt", reports(100))):
        data, again, other = (text_data(source, tokenizer, seed=seed, note=notes.append, **FEW) for seed in (0, 0, 1))
        assert same_texts(data, again)
        assert data.record == again.record
        assert set(together(data)) != set(together(other))
        assert data.record.sha256 != other.record.sha256


def test_built_in_texts_are_as_long_as_reports(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "tokenizer"
    write_tokenizer(folder, json.loads((folder / "config.json").read_text()), tmp_path)
    data = text_data(None, Tokenizer(tmp_path, tokenization()), note=lambda text: None)
    lengths = [len(ids) for ids in together(data)]
    assert 42 <= np.mean(lengths) <= 62
    assert np.percentile(lengths, 10) <= 8
    assert np.percentile(lengths, 95) >= 100
    assert data.record.skipped == 0
    assert len({token for ids in together(data) for token in ids}) > 600
    assert 1 not in {token for ids in together(data) for token in ids}, "no text has an unknown word"


def test_built_in_texts_are_whole_sentences() -> None:
    texts = [text for text, _ in zip(report_texts(3), range(500), strict=False)]
    for text in texts:
        assert text[0].isupper() or text[0].isdigit(), text
        assert not set("{}|") & set(text), text
        assert text == " ".join(text.split()), text
        assert not re.search(r"\b[Aa] ([aeiou]|8 |11 )", text), text
    words = [len(text.split()) for text in texts]
    assert min(words) <= 3
    assert max(words) >= 80


def test_the_same_texts_come_of_every_format(tokenizer: Tokenizer, tmp_path: Path, notes: list[str]) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = reports(60)
    expected = text_data(write_lines(tmp_path / "a.txt", texts), tokenizer, note=notes.append, **FEW)
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("id", "report"), *enumerate(texts)])
    lines = [json.dumps({"id": index, "report": text}) for index, text in enumerate(texts)]
    write_lines(tmp_path / "a.jsonl", lines)
    parquet.write_table(pyarrow.table({"id": list(range(60)), "report": texts}), tmp_path / "a.parquet")
    for suffix in ("csv", "jsonl", "parquet"):
        data = text_data(tmp_path / f"a.{suffix}", tokenizer, column="report", note=notes.append, **FEW)
        assert same_texts(data, expected)
        assert data.record.sha256 == expected.record.sha256
        assert (data.record.kind, data.record.name) == ("file", f"a.{suffix}")
    assert notes == []


def test_digests_are_of_the_texts_in_order(tokenizer: Tokenizer, tmp_path: Path, notes: list[str]) -> None:
    texts = reports(48)
    data = text_data(write_lines(tmp_path / "a.txt", texts), tokenizer, note=notes.append, **FEW)
    text_of = {tuple(ids): text.encode() for text, ids in zip(texts, tokenizer.encode(texts), strict=True)}
    for part, digest in (
        (data.calibration, data.record.sha256),
        (data.held_out, data.record.held_out_sha256),
    ):
        ordered = [text_of[tuple(ids)] for ids in part]
        assert digest == hashlib.sha256(b"".join(len(each).to_bytes(8, "big") + each for each in ordered)).hexdigest()
    changed = write_lines(tmp_path / "a.txt", [text.replace("unchanged", "UNCHANGED") for text in texts])
    other = text_data(changed, tokenizer, note=notes.append, **FEW)
    assert same_texts(other, data), "the tokenizer does not see case"
    assert other.record.sha256 != data.record.sha256
    assert other.record.held_out_sha256 != data.record.held_out_sha256


def test_unusable_texts_are_skipped_named_and_counted(tokenizer: Tokenizer, tmp_path: Path, notes: list[str]) -> None:
    bad = [3.5, None, "  ", "...", "x [SEP]", "1 " * 600, "half \ud800 pair"]
    rows = [{"text": text} for text in (*reports(48), *bad)]
    source = write_lines(tmp_path / "a.jsonl", [json.dumps(row) for row in rows])
    data = text_data(source, tokenizer, note=notes.append, count=300, held_out=300)
    assert set(together(data)) == {tuple(ids) for ids in tokenizer.encode(reports(48))}
    assert (data.record.items, data.record.held_out, data.record.skipped) == (32, 16, 7)
    assert "7 of 55 texts looked at cannot be used" in notes[0]
    assert notes[0].count(f"\n  {source}:") == 5
    assert "… and 2 more" in notes[0]
    assert "48 usable, distinct texts instead of the 600 wanted: 32 calibrate, 16 judge" in notes[1]
    few = text_data(source, tokenizer, note=notes.append, **FEW)
    assert few.record.items + few.record.held_out == 48


def test_a_row_that_cannot_be_read_is_left_out_and_named(
    tokenizer: Tokenizer, tmp_path: Path, notes: list[str]
) -> None:
    lines = [
        "id,text",
        *(f"{number},{text}" for number, text in enumerate(reports(48))),
        "48,No effusion, but more",
        "49",
    ]
    source = write_lines(tmp_path / "a.csv", lines)
    data = text_data(source, tokenizer, note=notes.append, count=300, held_out=300)
    assert (data.record.items, data.record.held_out, data.record.skipped) == (32, 16, 2)
    assert f"{source}:49: has 3 fields where the header has 2 (line 50)" in notes[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (3.5, "a float came where a str is expected"),
        (" ", "holds no words"),
        ("?!.", "holds no words"),
        ("x [SEP]", "the special token [SEP]"),
        ("1 " * 600, "602 tokens"),
    ],
)
def test_the_reason_is_given(tokenizer: Tokenizer, tmp_path: Path, notes: list[str], text: object, reason: str) -> None:
    source = write_lines(tmp_path / "a.jsonl", [json.dumps({"text": each}) for each in (text, *reports(48))])
    text_data(source, tokenizer, note=notes.append, count=300, held_out=300)
    assert f"{source}:1: {reason}" in notes[0].replace("contains ", "")


def test_repeats_count_once(tokenizer: Tokenizer, tmp_path: Path, notes: list[str]) -> None:
    texts = reports(60)
    source = write_lines(tmp_path / "a.txt", [*texts, *texts[:20], *(text.upper() + "." for text in texts[20:45])])
    data = text_data(source, tokenizer, note=notes.append, count=300, held_out=300)
    assert len(together(data)) == len(set(together(data))) == 60
    assert data.record.skipped == 0
    assert "45 of the texts repeat others" in notes[0]


def test_too_few_texts_are_divided_in_proportion(tokenizer: Tokenizer, tmp_path: Path, notes: list[str]) -> None:
    for number, count, held_out, first in (
        (120, 300, 300, 60),
        (120, 300, 100, 90),
        (50, 300, 300, 32),
        (99, 99, 16, 83),
    ):
        source = write_lines(tmp_path / "a.txt", reports(number))
        data = text_data(source, tokenizer, note=notes.append, count=count, held_out=held_out)
        assert (data.record.items, data.record.held_out) == (first, number - first)


def test_a_large_file_is_not_tokenized_whole(tokenizer: Tokenizer, tmp_path: Path, notes: list[str]) -> None:
    class Counting:
        seen = 0

        def encode(self, texts: list[str]) -> list[list[int]]:
            self.seen += len(texts)
            return tokenizer.encode(texts)

        def find(self, token: str) -> int | None:
            return tokenizer.find(token)

    counting = Counting()
    data = text_data(write_lines(tmp_path / "a.txt", reports(5000)), counting, note=notes.append, **FEW)
    assert counting.seen < 150
    numbers = sorted(next(int(word) for word in text.split() if word.isdigit()) for text in decoded(tokenizer, data))
    assert numbers[0] < 1000
    assert numbers[-1] > 4000, "from the whole file, not from its beginning"


def decoded(tokenizer: Tokenizer, data: CalibrationData) -> list[str]:
    texts = reports(5000)
    text_of = {tuple(ids): text for text, ids in zip(texts, tokenizer.encode(texts), strict=True)}
    return [text_of[ids] for ids in together(data)]


def test_text_files_that_cannot_be_used_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    def message(path: Path, **options: object) -> str:
        text = refused(path, tokenizer, **options)
        assert text.startswith(f"{path}: ")
        return text

    assert "there is no such file. A file .txt / .csv / .jsonl / .parquet" in message(tmp_path / "absent.csv")
    assert "is not a file" in message(tmp_path)
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    assert "is not known to hold texts. A file .txt" in message(tmp_path / "a.pdf")
    Image.fromarray(chest_phantom(40, 40)).save(tmp_path / "a.png")
    assert "is not known to hold texts" in message(tmp_path / "a.png")
    assert "cannot be read (File name too long)" in message(tmp_path / ("x" * 300 + ".txt"))
    assert "holds nothing to embed" in message(write_lines(tmp_path / "empty.txt", []))
    table = write_lines(tmp_path / "a.csv", ["id,note", "1,x"])
    assert "has no column 'report'; it has: id, note. A file" in message(table, column="report")
    (tmp_path / "latin.txt").write_bytes("\xe9t\xe9\n".encode("latin-1") * 60)
    assert "is not UTF-8" in message(tmp_path / "latin.txt")
    table = write_lines(tmp_path / "a.csv", ["id,text", '1,"x', "2,y"])
    assert "near line 2 (the quote that opens there never closes)" in message(table)
    assert "line 2 is not valid JSON" in message(write_lines(tmp_path / "a.jsonl", ['{"text": "x"}', "{"]))
    few = message(write_lines(tmp_path / "few.txt", [*reports(47), "[CLS]", *reports(3)]))
    assert "47 usable, distinct texts (1 cannot be used, 3 repeat others); at least 48 are expected" in few
    assert "few.txt:48: contains the special token [CLS]" in few
    assert "31 texts to calibrate with were asked for; at least 32" in refused(None, tokenizer, count=31)
    assert "15 texts to judge by were asked for; at least 16" in refused(None, tokenizer, held_out=15)


def test_a_model_that_takes_no_built_in_text_ends(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "max_length", 3)
    message = refused(None, tokenizer, **FEW)
    assert "The built-in texts: 0 usable" in message
    assert "Pass --calibration-text FILE" in message
