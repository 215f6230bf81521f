"""Search of an index by text and image, and the pictures of its items, which lie within its root or are not shown."""

from __future__ import annotations

import base64
import copy
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import runtime
from runtime.archive.digests import model_digest
from runtime.engine import Engine
from runtime.retrieval.index_folder import IndexedItem, Origin, write_folder
from runtime.serve.server_state import ServedIndex, Server
from tests.runtime.serve.protocols.direct import DirectModel

pytest.importorskip("faiss")

SENTENCES = ["Left pleural effusion.", "Clear lungs", "No pneumothorax"]


def write(engine: Engine, out: Path, kind: str, vectors: np.ndarray, items: Sequence[IndexedItem]) -> runtime.Index:
    weights = engine.manifest.source.weights
    origin = Origin(kind, "biovil", model_digest(engine, kind), dict(weights), "cpu", "fp32", True)
    write_folder(out, origin, vectors, iter(items))
    return runtime.open_index(out)


@pytest.fixture
def root(tmp_path: Path, films: list[bytes]) -> Path:
    """A folder with pictures, and things that lie beside it."""
    folder = tmp_path / "root"
    folder.mkdir()
    for number, film in enumerate(films):
        (folder / f"{number}.png").write_bytes(film)
    (tmp_path / "outside.png").write_bytes(films[0])
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "large.png").write_bytes(films[0] + bytes(1000))
    (folder / "text.png").write_text("no picture")
    return folder


@pytest.fixture
def client(server: Server, engine: Engine, films: list[bytes], root: Path, client: TestClient) -> TestClient:
    paths = ["0.png", "1.png", str(root / "2.png"), "../outside.png", "link.png", "missing.png", ".", "text.png"]
    rows = engine.image.encode(list(films))
    vectors = np.vstack([rows, *[rows[:1]] * (len(paths) - len(rows))])
    images = [IndexedItem(f"film-{row}", None, path) for row, path in enumerate(paths)]
    texts = [IndexedItem(f"text-{row}", text, None) for row, text in enumerate(SENTENCES)]
    by_image = write(engine, root.parent / "images.index", "image", vectors, images)
    by_text = write(engine, root.parent / "texts.index", "text", engine.text.encode(SENTENCES), texts)
    server.indexes = {"films": ServedIndex("films", by_image, root), "texts": ServedIndex("texts", by_text)}
    return client


def test_by_text(client: TestClient, server: Server, engine: Engine) -> None:
    answer = client.post("/search", json={"text": "effusion", "top_k": 3}).json()
    want = server.indexes["films"].index.search(engine.text.encode("effusion"), 3)
    assert (answer["index"], answer["kind"]) == ("films", "image")
    assert [hit["id"] for hit in answer["hits"]] == want.ids[0]
    np.testing.assert_allclose([hit["score"] for hit in answer["hits"]], want.scores[0], atol=1e-6)
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    assert "text" not in answer["hits"][0]


def test_by_image(client: TestClient, films: list[bytes]) -> None:
    best = client.post("/search", files={"image": ("x.png", films[1])}, data={"top_k": "1"}).json()["hits"]
    assert (len(best), best[0]["id"], best[0]["picture"]) == (1, "film-1", "/indexes/films/pictures/1")
    assert best[0]["score"] == pytest.approx(1, abs=1e-5)
    body = {"image": base64.b64encode(films[1]).decode(), "index": "texts"}
    hits = client.post("/search", json=body).json()["hits"]
    assert {hit["text"] for hit in hits} == set(SENTENCES)
    assert "picture" not in hits[0]


def test_small_pictures(client: TestClient, films: list[bytes]) -> None:
    for row in (0, 2):
        answer = client.get(f"/indexes/films/pictures/{row}")
        assert answer.headers["content-type"] == "image/png"
        shown, sent = (np.asarray(Image.open(io.BytesIO(each))) for each in (answer.content, films[row]))
        assert np.corrcoef(shown.ravel(), sent.ravel())[0, 1] > 0.99
        assert "private" in answer.headers["cache-control"]


@pytest.mark.parametrize("row", ["3", "4", "5", "6", "7", "8", "9" * 5000, "-1", "x", "..%2f0"])
def test_pictures_that_are_not_shown(client: TestClient, row: str) -> None:
    """Outside the root, by a link too; missing; a folder; no picture; no item."""
    assert client.get(f"/indexes/films/pictures/{row}").status_code == 404


def test_an_index_without_root_shows_none(client: TestClient) -> None:
    assert client.get("/indexes/texts/pictures/0").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"text": "x", "image": "AAAA"}, 422),
        ({"text": "x", "top_k": 0}, 422),
        ({"text": "x", "top_k": 1001}, 422),
        ({"text": "x", "top_k": 1.5}, 422),
        ({"text": "x", "index": "missing"}, 404),
    ],
)
def test_refusals(client: TestClient, body: dict, status: int) -> None:
    assert client.post("/search", json=body).status_code == status


def test_an_index_is_searched_by_the_model_that_made_it_alone(
    client: TestClient, server: Server, model: DirectModel, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another of the same embedding size would find something, and nothing would say that it is meaningless."""
    films = server.indexes["films"]
    server.indexes = {"films": replace(films, model="other")}
    before = client.post("/search", json={"text": "effusion"}).json()["hits"]
    source = replace(engine.manifest.source, weights={"pytorch_model.bin": "0" * 64})
    copied = copy.copy(engine)
    copied.manifest = replace(engine.manifest, source=source)
    monkeypatch.setattr(model, "engine", copied)  # the default one
    answer = client.post("/search", json={"text": "effusion"})
    assert (answer.json()["model"], answer.json()["hits"]) == ("other", before)
    answer = client.post("/search", json={"text": "effusion", "model": "tiny"})
    assert (answer.status_code, "another model" in answer.json()["error"]) == (422, True)


def test_no_index(server: Server, client: TestClient) -> None:
    server.indexes = {}
    assert client.post("/search", json={"text": "x"}).status_code == 404


def test_info_lists_them(client: TestClient) -> None:
    films, texts = client.get("/info").json()["indexes"]
    assert films == {"name": "films", "kind": "image", "rows": 8, "pictures": True, "queries": ["text", "image"]}
    assert (texts["kind"], texts["pictures"]) == ("text", False)
