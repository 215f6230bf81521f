"""Retrieval both ways, pictures in colours and grounding, on a bundle that is like CLIP and not like BioViL."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

import runtime
from runtime.__main__ import main
from runtime.choice.info import describe_bundle, print_description
from runtime.errors import BundleError
from tests.conftest import edit_json
from tests.runtime.handmade import SIZE, WORDS, write_clip
from tests.runtime.retrieval.test_result_sheet import Page

pytest.importorskip("faiss")

TEXTS = [f"{first} {second}" for first in WORDS[:4] for second in WORDS[4:8]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "bundle", "small {}", "{}", "no {}", "{} left")


@pytest.fixture(scope="module")
def engine(bundle: Path) -> runtime.Engine:
    return runtime.load(bundle, provider="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Red on the left, and much else."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    files = [folder / f"{number}.png" for number in range(7)]
    for file in files:
        values = rng.integers(0, 256, (130, 150, 3)).astype(np.uint8)
        values[:, :75] = (250, 20, 10)
        Image.fromarray(values).save(file)
    return files


def searched(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[list[tuple[str, float]]]:
    assert main(["search", *map(str, arguments), "--provider", "cpu", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    return [[(hit["id"], hit["score"]) for hit in each["hits"]] for each in report["queries"]]


def best(scores: np.ndarray, names: list[str], top_k: int) -> list[list[tuple[str, float]]]:
    order = np.argsort(-scores, axis=1)[:, :top_k]
    return [
        [(names[at], pytest.approx(row[at], abs=1e-6)) for at in found]
        for row, found in zip(scores, order, strict=True)
    ]


def test_texts_find_images_and_images_find_texts(
    bundle: Path, engine: runtime.Engine, photos: list[Path], tmp_path: Path, capsys
) -> None:
    scores = cosine_similarity(engine.text.encode(TEXTS), engine.image.encode(photos))
    assert scores.shape == (16, 7)
    options = ("--provider", "cpu")
    assert main(["index", str(bundle), str(photos[0].parent), "--out", str(tmp_path / "images"), *options]) == 0
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    assert main(["index", str(bundle), str(tmp_path / "texts.txt"), "--out", str(tmp_path / "texts"), *options]) == 0
    capsys.readouterr()
    names = [str(file) for file in photos]
    found = searched(capsys, bundle, tmp_path / "images", *TEXTS[:3], "--top-k", 4)
    assert found == best(scores[:3], names, 4)
    found = searched(capsys, bundle, tmp_path / "texts", *photos[:3], "--top-k", 5)
    assert found == best(scores.T[:3], [f"{tmp_path / 'texts.txt'}:{row}" for row in range(1, 17)], 5)
    index = runtime.open_index(tmp_path / "texts", engine)
    assert (index.kind, index.embedding_size) == ("text", SIZE)


def test_a_sheet_shows_colours_where_the_system_sees_them(
    bundle: Path, photos: list[Path], tmp_path: Path, capsys
) -> None:
    assert main(["index", str(bundle), str(photos[0].parent), "--out", str(tmp_path / "images")]) == 0
    sheet = tmp_path / "sheet.html"
    assert main(["search", str(bundle), str(tmp_path / "images"), "edema", "--html", str(sheet)]) == 0
    pictures = Page(sheet).pictures
    assert len(pictures) == 7
    for picture in pictures:
        assert picture.mode == "RGB"
        red, green, blue = np.asarray(picture)[:, :60].reshape(-1, 3).mean(axis=0)
        assert red > 200
        assert max(green, blue) < 60


def test_an_overlay_shows_colours(bundle: Path, photos: list[Path], tmp_path: Path, capsys) -> None:
    out = tmp_path / "overlay.png"
    assert main(["ground", str(bundle), str(photos[0]), "left edema", "--out", str(out), "--provider", "cpu"]) == 0
    picture = np.asarray(Image.open(out).convert("RGB")).astype(int)
    left = picture[picture.shape[0] // 3 : picture.shape[0] // 2, 100:300].reshape(-1, 3)
    assert (np.abs(left - (250, 20, 10)).max(axis=1) < 12).mean() > 0.5


def without_patches(bundle: Path) -> Path:
    def edit(data: dict) -> None:
        data["image"]["grid"] = None
        (artifact,) = data["image"]["artifacts"]
        artifact["outputs"] = [each for each in artifact["outputs"] if each["name"] != "patch_embeds"]

    edit_json(bundle / "manifest.json", edit)
    return bundle


def test_grounding_needs_patches_on_a_grid(photos: list[Path], tmp_path: Path, capsys) -> None:
    bundle = without_patches(write_clip(tmp_path / "bundle"))
    engine = runtime.load(bundle, provider="cpu")
    for ask in (engine.ground, engine.similarity_map):
        with pytest.raises(BundleError, match=r"without patches on a grid, .*engine\.similarity says how well"):
            ask(photos[0], "left edema")
    with pytest.raises(BundleError, match="embeds no patches"):
        engine.image.encode_patches(photos[0])
    assert -1 <= engine.similarity(photos[0], "left edema") <= 1
    assert main(["ground", str(bundle), str(photos[0]), "edema", "--out", str(tmp_path / "o.png")]) == 1
    assert "without patches on a grid" in capsys.readouterr().err
    print_description(describe_bundle(bundle))
    assert "no patches" in capsys.readouterr().out


def test_info_says_what_joins_the_towers_and_what_patches_are(bundle: Path, tmp_path: Path, capsys) -> None:
    print_description(describe_bundle(bundle))
    printed = " ".join(capsys.readouterr().out.split())
    assert "joint 16 dimensions, score softmax: labels are compared with each other; scale 100" in printed
    assert "templates small {}; {}; no {} and 1 more" in printed
    assert "3 × 3 patches" in printed
