"""From files or embeddings to an index, and from a phrase or an image to what it resembles: `index` and `search`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.__main__ import main
from runtime.archive.digests import model_digest
from runtime.retrieval.index_folder import IndexedItem, Origin, write_folder
from tests.conftest import edit_json
from tests.runtime.handmade import WORDS, artifact, fp32, write_bundle

pytest.importorskip("faiss")
pytest.importorskip("pyarrow")

REPORTS = (
    "no effusion",
    "small left pleural effusion",
    "clear lungs",
    "right opacity",
    "edema",
    "[SEP]",
    "lungs clear",
)
QUERY = "left effusion"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("handmade") / "bundle", text=[fp32()], image=[fp32()])


@pytest.fixture(scope="module")
def engine(bundle: Path) -> runtime.Engine:
    return runtime.load(bundle, provider="cpu")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for number in range(6):
        Image.fromarray(chest_phantom(120, 110, number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    file = tmp_path / "reports.jsonl"
    file.write_text("".join(json.dumps({"study": f"s{n}", "report": text}) + "\n" for n, text in enumerate(REPORTS)))
    return file


def run(command: str, bundle: Path, *arguments: object) -> int:
    return main([command, str(bundle), "--provider", "cpu", *map(str, arguments)])


def search(capsys: pytest.CaptureFixture[str], bundle: Path, *arguments: object) -> dict:
    assert run("search", bundle, *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_phrase_and_an_image_find_images(
    engine: runtime.Engine, bundle: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("index", bundle, films, "--out", tmp_path / "films.index") == 0
    assert "6 images → " in capsys.readouterr().out
    query = films / "4.png"
    report = search(capsys, bundle, tmp_path / "films.index", QUERY, query, "--top-k", 3)
    assert {key: report[key] for key in ("kind", "items", "search")} == {"kind": "image", "items": 6, "search": "exact"}
    paths = [str(films / f"{number}.png") for number in range(6)]
    candidates = engine.image.encode(paths)
    queries = {QUERY: engine.text.encode(QUERY)[0], str(query): candidates[4]}
    assert [answer["query"] for answer in report["queries"]] == list(queries)
    assert [answer["kind"] for answer in report["queries"]] == ["text", "image"]
    for answer, embedding in zip(report["queries"], queries.values(), strict=True):
        scores = candidates @ embedding
        best = np.argsort(-scores)[:3]
        assert [hit["id"] for hit in answer["hits"]] == [paths[row] for row in best]
        assert [hit["path"] for hit in answer["hits"]] == [paths[row] for row in best]
        assert [hit["score"] for hit in answer["hits"]] == pytest.approx(scores[best], abs=1e-6)
        assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    assert report["queries"][1]["hits"][0]["id"] == str(query), "an image finds itself first"


def test_an_image_and_a_phrase_find_texts(
    engine: runtime.Engine, bundle: Path, films: Path, reports: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "reports.index"
    table = (reports, "--column", "report", "--id-column", "study")
    assert run("index", bundle, *table, "--out", out) == 1
    assert "1 of 7 texts cannot be used" in capsys.readouterr().err
    assert not out.exists()
    assert run("index", bundle, *table, "--out", out, "--skip-bad") == 0
    assert "6 texts → " in capsys.readouterr().out
    report = search(capsys, bundle, out, films / "0.png", "clear")
    good = [text for text in REPORTS if text != "[SEP]"]
    scores = engine.text.encode(good) @ engine.image.encode([films / "0.png"])[0]
    best = np.argsort(-scores, kind="stable")
    assert [hit["text"] for hit in report["queries"][0]["hits"]] == [good[row] for row in best]
    assert [hit["id"] for hit in report["queries"][0]["hits"]] == [f"s{REPORTS.index(good[row])}" for row in best]
    assert report["queries"][1]["hits"][0]["text"] in ("clear lungs", "lungs clear")
    assert run("search", bundle, out, "clear", "--top-k", 1) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("“clear” → texts\n   1  +")
    assert run("index", bundle, *table, "--out", out, "--skip-bad") == 1
    assert "already exists" in capsys.readouterr().err


def test_embeddings_that_were_written_before(bundle: Path, films: Path, reports: Path, tmp_path: Path, capsys) -> None:
    folder, file = tmp_path / "films", tmp_path / "films.parquet"
    for out in (f"{folder}/", file):
        assert run("embed", bundle, films, "--out", out, *(["--part-rows", 4] if out != file else [])) == 0
    indices = {}
    for name, source in (("direct", films), ("folder", folder), ("file", file)):
        assert run("index", bundle, source, "--out", tmp_path / name) == 0
        indices[name] = runtime.open_index(tmp_path / name)
    assert indices["direct"].about.origin == indices["folder"].about.origin == indices["file"].about.origin
    for index in indices.values():
        assert np.abs(index.vectors - indices["direct"].vectors).max() <= 1e-6
        assert [index.item(row) for row in range(6)] == [indices["direct"].item(row) for row in range(6)]
    assert run("embed", bundle, reports, "--column", "report", "--out", tmp_path / "texts", "--id-column", "study") == 0
    assert run("index", bundle, tmp_path / "texts", "--out", tmp_path / "texts.index") == 0
    texts = runtime.open_index(tmp_path / "texts.index")
    assert texts.kind == "text"
    assert [texts.item(row).id for row in range(6)] == ["s0", "s1", "s2", "s3", "s4", "s6"]
    assert run("index", bundle, folder, file, "--out", tmp_path / "twice") == 0
    assert len(runtime.open_index(tmp_path / "twice")) == 12


def test_embeddings_that_cannot_be_indexed(bundle: Path, films: Path, reports: Path, tmp_path: Path, capsys) -> None:
    import pyarrow.parquet

    def refused(*inputs: object) -> str:
        assert run("index", bundle, *inputs, "--out", tmp_path / "x.index") == 1
        assert not (tmp_path / "x.index").exists()
        return capsys.readouterr().err

    mine, texts, other = tmp_path / "mine", tmp_path / "texts.parquet", tmp_path / "other.parquet"
    assert run("embed", bundle, films, "--out", mine, "--part-rows", 4) == 0
    assert run("embed", bundle, "--text", "x", "--out", texts) == 0
    foreign = write_bundle(tmp_path / "foreign", image=[artifact("fp32", name="another_seed")])
    assert run("embed", foreign, films, "--out", other) == 0
    assert "was made by another model: biovil" in refused(other)
    assert f"{texts}: was made by another model than {mine}/part-00000.parquet" in refused(mine, texts)
    assert "holds embeddings and" in refused(mine, reports)
    assert "does not say which model made it" in refused(tmp_path / "a.npy")
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(other).replace_schema_metadata(None), other)
    assert "does not say which model made it (no family in its schema)" in refused(other)
    (mine / "part-00001.parquet").unlink()
    assert "has 1 parts where 2 were written" in refused(mine)
    edit_json(mine / "_job.json", lambda job: job.update(finished=None))
    assert "was not finished. Finish it with embed --resume" in refused(mine)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    assert "is not valid Parquet" in refused(tmp_path / "broken.parquet")
    assert "There is nothing to embed" in refused()


def test_in_a_call(engine: runtime.Engine, films: Path, tmp_path: Path) -> None:
    table = tmp_path / "films.csv"
    table.write_text("film,study\n" + "".join(f"{films}/{number}.png,s{number}\n" for number in range(3)))
    index = runtime.build_index(engine, table, tmp_path / "a.index", image_column="film", id_column="study")
    assert [index.item(row).id for row in range(3)] == ["s0", "s1", "s2"]
    assert index.item(1).path == str(films / "1.png")
    found = index.search(engine.text.encode([QUERY, "edema"]), top_k=2)
    assert (len(found.ids), found.scores.shape) == (2, (2, 2))
    texts = runtime.build_index(engine, [], tmp_path / "b.index", texts=["no edema", "effusion"])
    assert texts.search(engine.text.encode("effusion"), top_k=1).rows.tolist() == [[1]]
    assert texts.item(1).text == "effusion"
    assert "kind='text', items=2, exact" in repr(texts)


def test_an_index_of_another_bundle_is_refused(bundle: Path, films: Path, tmp_path: Path, capsys) -> None:
    assert run("index", bundle, films, "--out", tmp_path / "a.index") == 0
    foreign = write_bundle(tmp_path / "foreign", text=[fp32()], image=[artifact("fp32", name="another_seed")])
    capsys.readouterr()
    assert run("search", foreign, tmp_path / "a.index", QUERY) == 1
    assert "a.index was made by another model" in capsys.readouterr().err


def test_what_is_a_phrase_and_what_an_image(bundle: Path, films: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    assert run("index", bundle, films, "--out", tmp_path / "a.index") == 0
    monkeypatch.chdir(films)
    capsys.readouterr()
    report = search(
        capsys, bundle, tmp_path / "a.index", "0.png", "0.png is clear", "--text", "1.png", "--image", "1.png"
    )
    assert [(answer["query"], answer["kind"]) for answer in report["queries"]] == [
        ("0.png", "image"),
        ("0.png is clear", "text"),
        ("1.png", "text"),
        ("1.png", "image"),
    ]
    report = search(capsys, bundle, "--top-k", 2, tmp_path / "a.index", "--exact", "clear " * 60)
    assert report["queries"][0]["kind"] == "text"
    assert len(report["queries"][0]["hits"]) == 2
    for arguments, message in (
        (["gone.png"], "There is no image gone.png. If it is a phrase, pass it with --text"),
        ([], "nothing to search for"),
        (["clear", "--html", "a.txt"], ".html is expected"),
        (["clear", "--image", "gone.png"], "gone.png"),
    ):
        assert run("search", bundle, tmp_path / "a.index", *arguments) == 1
        assert message in capsys.readouterr().err


def test_a_search_by_graph_says_so(engine: runtime.Engine, bundle: Path, tmp_path: Path, capsys) -> None:
    texts = [f"{first} {second}" for first in WORDS for second in WORDS]
    source = engine.manifest.source
    digest = model_digest(engine, "text")
    origin = Origin("text", "biovil", digest, source.weights, "cpu", "fp32", False)
    items = (IndexedItem(text, text) for text in texts)
    write_folder(tmp_path / "a.index", origin, engine.text.encode(texts), items, exact_below=100)
    assert run("search", bundle, tmp_path / "a.index", "small effusion", "--top-k", 1) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("nearest by a graph, recall@10 ")
    assert printed[-1].endswith(" on 100 of its own items; --exact compares with every item")
    assert run("search", bundle, tmp_path / "a.index", "small effusion", "--top-k", 1, "--exact") == 0
    exact = capsys.readouterr().out.splitlines()
    assert [line[:15] for line in exact] == [line[:15] for line in printed[:-1]], "words in another order are as near"
    report = search(capsys, bundle, tmp_path / "a.index", "small effusion")
    assert report["search"] == "graph"
    assert report["graph_recall"] == runtime.open_index(tmp_path / "a.index").about.graph.recall


def test_all_queries_that_cannot_be_used_are_named(bundle: Path, films: Path, tmp_path: Path, capsys) -> None:
    assert run("index", bundle, films, "--out", tmp_path / "a.index") == 0
    assert run("search", bundle, tmp_path / "a.index", "clear", "no [SEP]", "[CLS] x") == 1
    assert "2 of 3 texts cannot be used" in capsys.readouterr().err
