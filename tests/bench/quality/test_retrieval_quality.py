"""Retrieval of a small table of pairs, against scikit-learn on PyTorch's own embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

import runtime
from bench.__main__ import main
from export.samples import SENTENCES, chest_phantom
from tests.conftest import System

OPTIONS = ("--provider", "cpu", "--precision", "fp32")
# Image → texts: images with two, and one text of two images.
_PAIRS = [(0, 0), (0, 1), (1, 2), (2, 3), (2, 4), (3, 2), (4, 5), (5, 6), (6, 7)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for number in range(7):
        Image.fromarray(chest_phantom(140, 150, number)).save(folder / f"{number}.png")
    return folder


def write_pairs(path: Path, *more: tuple[str, str]) -> Path:
    rows = [(f"{image}.png", SENTENCES[text]) for image, text in _PAIRS]
    path.write_text("".join(json.dumps({"film": image, "report": text}) + "\n" for image, text in [*rows, *more]))
    return path


def quality(*arguments: object) -> int:
    columns = ("--image-column", "film", "--text-column", "report")
    return main(["quality", "retrieval", *map(str, arguments), *columns, *OPTIONS])


def expected_recall(scores: np.ndarray, pairs: list[tuple[int, int]], k: int) -> float:
    best = np.argsort(-scores, axis=1)[:, :k]
    partners = [{other for query, other in pairs if query == row} for row in range(len(scores))]
    return float(np.mean([bool(set(found) & mine) for found, mine in zip(best.tolist(), partners, strict=True)]))


def test_both_ways_equal_brute_force_and_pytorch(tiny: System, films: Path, tmp_path: Path, capsys) -> None:
    file = write_pairs(tmp_path / "pairs.jsonl")
    assert quality(tiny.bundle, "--pairs", file, "--images", films, "--checkpoint", tiny.checkpoint, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pairs"] == {"file": "pairs.jsonl", "rows": 9, "skipped": 0}
    assert (report["texts"], report["images"]) == (8, 7)
    assert report["largest_difference"] <= 1e-5
    ours, theirs = report["results"].values()
    assert ours == theirs
    engine = runtime.load(tiny.bundle, provider="cpu", precision="fp32")
    scores = cosine_similarity(
        engine.text.encode(SENTENCES[:8]), engine.image.encode([films / f"{number}.png" for number in range(7)])
    )
    backwards = [(text, image) for image, text in _PAIRS]
    for k in (1, 5, 10):
        assert ours["text_to_image"]["recall"][str(k)] == pytest.approx(expected_recall(scores, backwards, k))
        assert ours["image_to_text"]["recall"][str(k)] == pytest.approx(expected_recall(scores.T, _PAIRS, k))
    assert ours["text_to_image"]["candidates"] == ours["image_to_text"]["queries"] == 7
    assert 0 < ours["text_to_image"]["recall"]["5"] < 1, "chance would be 5 of 7"


def test_rows_that_cannot_be_used_are_listed(tiny: System, films: Path, tmp_path: Path, capsys) -> None:
    (films / "broken.png").write_bytes((films / "0.png").read_bytes()[:300])
    bad = (("gone.png", "x"), ("0.png", "[SEP]"), ("broken.png", "y"), ("1.png", " "))
    file = write_pairs(films / "pairs.jsonl", *bad)
    assert quality(tiny.bundle, "--pairs", file) == 1
    message = capsys.readouterr().err
    assert "3 of 13 lines cannot be used" in message, "what must be decoded to be known comes later"
    for number, reason in ((10, "gone.png"), (11, "[SEP]"), (13, "'report' is empty")):
        assert any(f"line {number}: " in line and reason in line for line in message.splitlines())
    assert quality(tiny.bundle, "--pairs", file, "--skip-bad") == 0
    captured = capsys.readouterr()
    assert "9 pairs of 8 texts and 7 images; left out: 4" in captured.out
    assert "line 12: " in captured.err
    assert "R@10" in captured.out
