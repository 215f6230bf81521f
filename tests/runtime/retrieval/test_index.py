"""An index finds what computing every score finds, says what made it, and is refused where it does not fit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

import runtime
from runtime.archive.digests import model_digest, part_digests
from runtime.retrieval import index_folder, nearest
from runtime.retrieval.index_folder import IndexedItem, Origin, write_folder
from tests.conftest import edit_json
from tests.runtime.handmade import artifact, fp32, write_bundle
from tests.vectors import unit

faiss = pytest.importorskip("faiss")

ORIGIN = Origin("image", "biovil", "0" * 64, {}, "cpu", "fp32", False)


def clustered(rng: np.random.Generator, count: int, size: int = 32) -> np.ndarray:
    centres = np.random.default_rng(99).standard_normal((40, size))
    return unit(centres[rng.integers(0, 40, count)] + 0.6 * rng.standard_normal((count, size)))


def write(out: Path, vectors: np.ndarray, **options: int) -> runtime.Index:
    write_folder(out, ORIGIN, vectors, (IndexedItem(f"i{row}") for row in range(len(vectors))), **options)
    return runtime.open_index(out)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "a.index"
    write(out, clustered(np.random.default_rng(0), 300))
    return out


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy.index"))


def test_exact_search_equals_scikit_learn(small: Path) -> None:
    index = runtime.open_index(small)
    queries = clustered(np.random.default_rng(1), 70)
    found = index.search(queries, top_k=7)
    neighbours = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute").fit(index.vectors)
    distances, rows = neighbours.kneighbors(queries.astype(np.float64))
    assert np.array_equal(found.rows, rows)
    assert found.ids == [[f"i{row}" for row in each] for each in rows]
    assert found.scores.dtype == np.float32
    assert np.abs(found.scores - (1 - distances)).max() <= 1e-6
    one = index.search(queries[3:4], top_k=7)
    assert one.ids == found.ids[3:4], "one query or many"
    assert np.abs(one.scores - found.scores[3]).max() <= 1e-6
    assert (index.exact, index.kind, len(index), index.embedding_size) == (True, "image", 300, 32)


def test_equal_scores_stand_in_the_order_of_the_index(tmp_path: Path) -> None:
    vectors = np.eye(4, dtype=np.float32)[[2, 0, 1, 0, 2, 0, 3]]
    found = write(tmp_path / "a.index", vectors).search(np.eye(4, dtype=np.float32)[:1], top_k=99)
    assert found.rows.tolist() == [[1, 3, 5, 0, 2, 4, 6]], "at most all of them"
    assert found.scores.tolist() == [[1, 1, 1, 0, 0, 0, 0]]


def test_a_graph_is_searched_beyond_a_number_of_items_and_its_recall_is_recorded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = clustered(rng, 3000)
    index = write(tmp_path / "a.index", vectors, exact_below=3000)
    assert not index.exact
    assert write(tmp_path / "b.index", vectors[:2999], exact_below=3000).exact
    chosen = np.sort(np.random.default_rng(0).permutation(3000)[:500])
    _, true = (
        NearestNeighbors(n_neighbors=11, metric="cosine", algorithm="brute").fit(vectors).kneighbors(vectors[chosen])
    )
    found = index.search(vectors[chosen], top_k=11).rows
    both = zip(chosen, true, found, strict=True)
    recall = np.mean([len((set(a) - {own}) & (set(b) - {own})) / 10 for own, a, b in both])
    record = index.about.graph
    assert record.queries == 500
    assert record.recall == pytest.approx(recall, abs=0.002)
    assert record.recall > 0.95
    queries = clustered(rng, 50)
    exact = index.search(queries, exact=True)
    assert np.array_equal(exact.rows, np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :10])
    assert np.abs(index.search(queries).scores[:, 0] - exact.scores[:, 0]).max() < 0.2


def test_a_recall_that_is_poor_is_recorded_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"neighbours": 2, "ef_construction": 2, "ef_search": 1}.items():
        monkeypatch.setitem(nearest.GRAPH_SETTINGS, name, value)
    vectors = unit(np.random.default_rng(0).standard_normal((3000, 32)))
    record = write(tmp_path / "a.index", vectors, exact_below=10).about.graph
    assert record.recall < 0.7
    assert record.settings == {"neighbours": 2, "ef_construction": 2, "ef_search": 1}


def test_queries_that_a_graph_cannot_fill_are_computed(small: Path) -> None:
    index = runtime.open_index(small)
    queries = clustered(np.random.default_rng(1), 3)
    scores, rows = nearest.search_exact(index.vectors, queries, 5)
    broken = rows.copy()
    broken[1, 3:] = -1
    graph = SimpleNamespace(search=lambda *_, **__: (scores.copy(), broken))
    found_scores, found_rows = nearest.search_graph(graph, index.vectors, queries, 5)
    assert np.array_equal(found_rows, rows)
    assert np.array_equal(found_scores, scores)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (np.zeros((1, 31), np.float32), r"float32 \(1, 31\); float32 \(Q, 32\)"),
        (np.zeros(32, np.float32), r"float32 \(32,\)"),
        (np.zeros((1, 32)), "float64"),
        (np.full((1, 32), np.nan, np.float32), "no finite number"),
    ],
)
def test_queries_of_another_shape_or_kind_are_refused(small: Path, queries: np.ndarray, message: str) -> None:
    index = runtime.open_index(small)
    with pytest.raises(runtime.InputError, match=message):
        index.search(queries)
    with pytest.raises(runtime.InputError, match="top_k=0"):
        index.search(np.zeros((1, 32), np.float32), top_k=0)


def test_damage_is_listed(copy: Path) -> None:
    content = bytearray((copy / "vectors.npy").read_bytes())
    content[-1] ^= 1
    (copy / "vectors.npy").write_bytes(content)
    with (copy / "items.jsonl").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(
        runtime.InputError,
        match=r"damaged(?s:.)*items.jsonl: 4,393 bytes, expected 4,390(?s:.)*vectors.npy: its sha256 is",
    ):
        runtime.open_index(copy)
    (copy / "vectors.npy").unlink()
    with pytest.raises(runtime.InputError, match=r"vectors.npy: missing"):
        runtime.open_index(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda about: about.update(schema_version=2),
            "schema version 2; this runtime reads 1. Install a newer version",
        ),
        (lambda about: about.pop("schema_version"), "no schema_version"),
        (lambda about: about.update(colour="red"), "unknown keys \\['colour'\\]"),
        (lambda about: about.update(items="many"), "items should be"),
        (lambda about: about.update(items=7), r"300 items where float32 \(7, 32\) is expected"),
        (lambda about: about["files"].pop("vectors.npy"), "vectors.npy: not listed"),
        (lambda about: about["files"].update({"../x": {"sha256": "", "bytes": 1}}), "leads out of the folder"),
    ],
)
def test_an_index_json_that_does_not_fit_is_refused(copy: Path, change, message: str) -> None:
    edit_json(copy / "index.json", change)
    with pytest.raises(runtime.InputError, match=message):
        runtime.open_index(copy)


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name, message in (
        ("gone", "does not exist"),
        ("file", "is a file"),
        (".", "is no index: it has no index.json"),
    ):
        with pytest.raises(runtime.InputError, match=message):
            runtime.open_index(tmp_path / name)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(runtime.InputError, match=r"index.json cannot be used"):
        runtime.open_index(tmp_path)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    vectors = clustered(np.random.default_rng(0), 50)
    with monkeypatch.context() as patch:
        patch.setattr(index_folder, "write_graph", full_disk)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / "a.index", vectors, exact_below=10)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "a.index", vectors)
    with pytest.raises(runtime.InputError, match="already exists"):
        write(tmp_path / "a.index", vectors)
    with pytest.raises(runtime.InputError, match="Embedding 3 has the norm nan"):
        write(tmp_path / "b.index", np.where(np.arange(50)[:, None] == 3, np.float32(np.nan), vectors))
    with pytest.raises(runtime.InputError, match="Embedding 0 has the norm 2; 1 is expected"):
        write(tmp_path / "b.index", 2 * vectors)
    with pytest.raises(runtime.InputError, match=f"the folder {tmp_path / 'no'} does not exist"):
        write(tmp_path / "no" / "b.index", vectors)
    assert [path.name for path in tmp_path.iterdir()] == ["a.index"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (ended.pid, os.getppid()):
        (tmp_path / f".a.index.partial-{process}").mkdir()
    write(tmp_path / "a.index", clustered(np.random.default_rng(0), 5))
    assert {path.name for path in tmp_path.iterdir()} == {"a.index", f".a.index.partial-{os.getppid()}"}


def test_an_index_of_another_model_is_refused_one_of_another_precision_is_not(tmp_path: Path) -> None:
    both = [fp32(), artifact("int8")]
    bundle = write_bundle(tmp_path / "bundle", text=both, image=both)
    other = write_bundle(tmp_path / "other", text=both, image=[artifact("fp32", name="another_seed"), artifact("int8")])
    engines = {
        precision: runtime.load(bundle, provider="cpu", precision=precision, parts=["image"])
        for precision in ("fp32", "int8")
    }
    vectors = clustered(np.random.default_rng(0), 5, 16)
    for precision, engine in engines.items():
        digest = model_digest(engine, "image")
        assert part_digests(engine.manifest, "image")[digest] == precision
        origin = Origin("image", "biovil", digest, engine.manifest.source.weights, "cpu", precision, False)
        write_folder(tmp_path / precision, origin, vectors, [IndexedItem("x")] * 5)
    text_only = runtime.load(bundle, provider="cpu", precision="fp32", parts=["text"])
    for precision in engines:
        assert len(runtime.open_index(tmp_path / precision, text_only)) == 5
        assert len(runtime.open_index(tmp_path / precision)) == 5, "unchecked without an engine"
    foreign = runtime.load(other, provider="cpu", precision="fp32")
    with pytest.raises(runtime.InputError) as caught:
        runtime.open_index(tmp_path / "fp32", foreign)
    message = str(caught.value)
    for part in ("was made by another model", model_digest(engines["fp32"], "image")[:16], "(fp32)", "(int8)"):
        assert part in message
    assert len(runtime.open_index(tmp_path / "int8", foreign)) == 5, "its int8 graph is the same, byte for byte"
    edit_json(tmp_path / "int8" / "index.json", lambda about: about["origin"]["weights"].update(other="0"))
    with pytest.raises(runtime.InputError, match="another model"):
        runtime.open_index(tmp_path / "int8", text_only)


def test_without_faiss_the_install_command_is_given(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(runtime.MissingExtraError, match=r"faiss-cpu(?s:.)*cxr-engine\[retrieval\]"):
        runtime.open_index(small)


def test_what_is_on_disk_is_plain(small: Path) -> None:
    assert np.load(small / "vectors.npy").shape == (300, 32)
    assert json.loads((small / "items.jsonl").read_text().splitlines()[7]) == {"id": "i7"}
    about = json.loads((small / "index.json").read_text())
    assert about["versions"] == {"cxr-engine": runtime.__version__, "faiss": faiss.__version__}
