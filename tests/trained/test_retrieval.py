"""Retrieval on trained weights: indexes of films and of captions, searched both ways, beside plain torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

import bench.__main__
import runtime
from runtime.__main__ import main
from tests.trained.conftest import COUNT, Trained

pytestmark = pytest.mark.slow

pytest.importorskip("faiss", reason="an index needs faiss")

TOP_K = 5
FEWER = 320


def stated(trained: Trained) -> list[tuple[str, str]]:
    """Finding and place of each case, of which there are 17; its caption states both."""
    return [(case.finding, case.location) for case in trained.cases]


def figures(trained: Trained, found: NDArray[np.int64]) -> dict[str, float]:
    """Recall and precision at 5 of what fits, and recall of the very caption, of items (480, 5)."""
    labels, captions = stated(trained), [case.caption for case in trained.cases]
    fits = np.array([[labels[row] == labels[query] for row in rows] for query, rows in enumerate(found)])
    same = np.array([[captions[row] == captions[query] for row in rows] for query, rows in enumerate(found)])
    return {"recall": float(fits.any(1).mean()), "precision": float(fits.mean()), "partner": float(same.any(1).mean())}


@pytest.fixture(scope="module")
def cosines(trained: Trained) -> NDArray[np.float32]:
    """By PyTorch: (films, captions)."""
    captions = F.normalize(torch.from_numpy(trained.encode_texts([case.caption for case in trained.cases])), dim=1)
    return (torch.from_numpy(trained.image_embeds) @ captions.T).numpy()


@pytest.fixture(scope="module")
def expected(cosines: NDArray[np.float32]) -> dict[str, NDArray[np.int64]]:
    """Positions of the five nearest: (480, 5) of captions for each film, and of films for each caption."""
    scores = torch.from_numpy(cosines)
    return {"captions": scores.topk(TOP_K).indices.numpy(), "films": scores.T.topk(TOP_K).indices.numpy()}


@pytest.fixture(scope="module")
def indexes(
    trained: Trained, engines: Mapping[str, runtime.Engine], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    """What is indexed and in which precision → the index, made as a user would."""
    folder, captions = tmp_path_factory.mktemp("indexes"), [case.caption for case in trained.cases]
    found = {}
    for precision, engine in engines.items():
        found["films", precision] = folder / f"films-{precision}"
        runtime.build_index(engine, trained.films, found["films", precision])
        found["captions", precision] = folder / f"captions-{precision}"
        runtime.build_index(engine, [], found["captions", precision], texts=captions)
    return found


@pytest.mark.parametrize("what", ["captions", "films"])
def test_the_reference_finds_what_fits(
    trained: Trained, cosines: NDArray[np.float32], expected: dict[str, NDArray[np.int64]], what: str
) -> None:
    reached = figures(trained, expected[what])
    assert reached["recall"] >= 0.97, reached
    assert reached["precision"] >= 0.9, reached
    assert reached["partner"] >= 0.1, reached  # 0.01 by chance; 0.18 if all captions of a class are one
    # Negative control: films of other cases.
    shuffled = cosines[np.random.default_rng(0).permutation(COUNT)]
    nearest = np.argsort(-(shuffled if what == "captions" else shuffled.T), axis=1)[:, :TOP_K]
    assert figures(trained, nearest)["precision"] < 0.15


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("what", ["captions", "films"])
def test_search_finds_what_pytorch_finds(
    trained: Trained,
    engines: Mapping[str, runtime.Engine],
    image_embeds: Mapping[str, NDArray[np.float32]],
    indexes: Mapping[tuple[str, str], Path],
    cosines: NDArray[np.float32],
    expected: dict[str, NDArray[np.int64]],
    what: str,
    precision: str,
) -> None:
    engine = engines[precision]
    index = runtime.open_index(indexes[what, precision], engine)
    assert index.exact
    assert len(index) == COUNT
    captions = [case.caption for case in trained.cases]
    found = index.search(engine.text.encode(captions) if what == "films" else image_embeds[precision], TOP_K)
    reached, wanted = figures(trained, found.rows), figures(trained, expected[what])
    matrix = cosines if what == "captions" else cosines.T
    differences = np.abs(found.scores - np.take_along_axis(matrix, found.rows, axis=1))
    if precision == "fp32":
        assert reached == wanted
        assert differences.max() <= 1e-5
    else:
        assert abs(reached["recall"] - wanted["recall"]) <= 0.01, (reached, wanted)
        assert abs(reached["precision"] - wanted["precision"]) <= 0.01, (reached, wanted)
        assert differences.max() > 1e-5, "int8 was not run"


def test_the_command_line_finds_films_for_a_phrase(
    trained: Trained, indexes: Mapping[tuple[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    phrase = "There is new chest tube projecting over the left upper zone"
    arguments = ["search", str(trained.bundle), str(indexes["films", "fp32"]), "--text", phrase, "--top-k", "5"]
    assert main([*arguments, "--provider", "cpu", "--precision", "fp32", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["queries"]
    numbers = [int(Path(hit["id"]).stem) for hit in answer["hits"]]
    assert {stated(trained)[number] for number in numbers} == {("drain", "left upper")}


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-9), ("int8", 0.01)])
def test_recall_by_the_command_line_is_that_of_pytorch(
    trained: Trained,
    cosines: NDArray[np.float32],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    precision: str,
    tolerance: float,
) -> None:
    """Every film is the partner of every caption that fits it."""
    captions, labels = [case.caption for case in trained.cases[:FEWER]], stated(trained)[:FEWER]
    first = [captions.index(caption) for caption in dict.fromkeys(captions)]
    pairs = np.array([[labels[row] == label for row in first] for label in labels])
    file = tmp_path / "pairs.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["image", "text"])
        rows.writerows((f"{film:04}.png", captions[first[column]]) for film, column in np.argwhere(pairs))
    arguments = ["--pairs", str(file), "--images", str(trained.films), "--provider", "cpu", "--precision", precision]
    assert bench.__main__.main(["quality", "retrieval", str(trained.bundle), *arguments, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["results"].values()
    scores = cosines[:FEWER, first]
    for way, matrix, partners in (("image_to_text", scores, pairs), ("text_to_image", scores.T, pairs.T)):
        nearest = np.argsort(-matrix, axis=1)
        for k in (1, TOP_K):
            hits = np.take_along_axis(partners, nearest[:, :k], axis=1).any(1)
            assert found[way]["recall"][str(k)] == pytest.approx(hits.mean(), abs=tolerance)
