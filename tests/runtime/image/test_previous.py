"""Current images with previous ones, on a handmade graph: the convolution of their difference, by numpy too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime import BundleError, InputError
from runtime.__main__ import main
from runtime.bundle import PAIR
from runtime.engine import Engine
from runtime.errors import Fault
from tests.conftest import edit_json
from tests.runtime.handmade import CROP, GRID, artifact, fp32, write_bundle

_PAIR = artifact("fp32", name="pair_fp32", role=PAIR)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("pairs") / "bundle", [fp32()], [fp32(), _PAIR])


@pytest.fixture
def engine(bundle: Path) -> Engine:
    return runtime.load(bundle, provider="cpu")


@pytest.fixture(scope="module")
def films() -> list[NDArray[np.uint8]]:
    return [chest_phantom(140 + index, 128, index) for index in range(20)]


def expected(bundle: Path, current: NDArray[np.uint8], previous: NDArray[np.uint8] | None) -> NDArray[np.float64]:
    """The patches of prepared pixels."""
    name = "model_fp32" if previous is None else "pair_fp32"
    weights = onnx.load(bundle / "image" / "onnx" / f"{name}.onnx").graph.initializer
    kernel = next(onnx.numpy_helper.to_array(each) for each in weights if each.name == "kernel")[:, 0]
    values = current.astype(np.float64) - (0 if previous is None else previous)
    side = CROP // GRID
    return np.einsum("yixj,dij->yxd", values.reshape(GRID, side, GRID, side), kernel)


def unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_each_row_is_of_its_image_and_its_previous_one(
    engine: Engine, bundle: Path, films: list[NDArray[np.uint8]]
) -> None:
    previous = [None if index % 3 == 1 else films[(index * 7 + 3) % 20] for index in range(20)]
    pixels = [each.pixels for each in engine.image.load(films)[0]]
    before = [None if each is None else engine.image.load(each)[0][0].pixels for each in previous]
    raw = [expected(bundle, one, other) for one, other in zip(pixels, before, strict=True)]
    patches = engine.image.encode_patches(films, previous)
    assert np.abs(patches - unit(np.stack(raw))).max() < 1e-5
    embeds = engine.image.encode(films, previous)
    assert np.abs(embeds - unit(np.stack(raw).mean((1, 2)))).max() < 1e-5
    assert np.array_equal(np.stack(list(engine.image.encode_iter(iter(films), iter(previous)))), embeds)
    for index in (0, 1, 2):
        alone = engine.image.encode(films[index], previous=previous[index])
        assert np.abs(alone - embeds[index]).max() < 1e-6
    alone = [index for index, each in enumerate(previous) if each is None]
    assert np.abs(embeds[alone] - engine.image.encode([films[index] for index in alone])).max() < 1e-6
    assert np.abs(embeds[0] - engine.image.encode(films[0])[0]).max() > 0.01, "the previous image counts"
    assert np.abs(embeds[0] - engine.image.encode(previous[0], films[0])[0]).max() > 0.01, "and which is which"


def test_prepared_pixels_and_missing_values_of_tables(engine: Engine, films: list[NDArray[np.uint8]]) -> None:
    pixels = np.stack([each.pixels for each in engine.image.load(films[:5])[0]])
    previous = np.roll(pixels, 1, axis=0)
    embeds = engine.image.encode(films[:5], [films[4], *films[:4]])
    assert np.abs(engine.image.encode_pixels(pixels, previous=previous) - embeds).max() < 1e-6
    both = engine.image.encode_pixels_and_patches(pixels, previous)
    assert np.array_equal(both[0], engine.image.encode_pixels(pixels, previous=previous))
    assert np.array_equal(both[1], engine.image.encode_pixels(pixels, "patch_embeds", previous))
    gaps = [films[4], float("nan"), None, films[1], films[0]]
    assert np.array_equal(engine.image.encode(films[:5], gaps)[1], engine.image.encode(films[:5], [None] * 5)[1])
    for wrong in (previous[:4], previous.astype(np.float32), previous[:, 1:]):
        with pytest.raises(InputError, match="previous_pixel_values"):
            engine.image.encode_pixels(pixels, previous=wrong)


def test_the_graph_of_pairs_is_opened_when_it_is_needed(
    engine: Engine, films: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    pairs = engine.image._graphs._pairs
    open_pairs = pairs._open_sessions
    monkeypatch.setattr(pairs, "_open_sessions", lambda: opened.append(1) or open_pairs())
    engine.image.encode(films[0])
    engine.image.encode(films[:2], [None, None])
    assert not opened
    engine.image.encode(films[0], films[1])
    engine.image.encode(films[:3], [films[1], None, films[2]])
    assert len(opened) == 1


def test_what_is_asked_of_both_images_together(engine: Engine, films: list[NDArray[np.uint8]]) -> None:
    text = engine.text.encode(["no edema"])[0]
    embed = engine.image.encode(films[0], films[1])[0]
    assert abs(engine.similarity(films[0], "no edema", films[1]) - embed @ text) < 1e-6
    found = engine.ground(films[0], "no edema", previous=films[1])
    assert abs(found.score - embed @ text) < 1e-6
    assert np.array_equal(found.similarity_map, engine.similarity_map(films[0], "no edema", films[1]), equal_nan=True)
    assert not np.allclose(found.patches, engine.ground(films[0], "no edema").patches)
    prompts = {"edema": (["edema"], ["no edema"])}
    several = engine.classify(films[:2], prompts, previous=[films[1], None])
    assert several[0] == pytest.approx(engine.classify(films[0], prompts, previous=films[1]))
    assert several[1] == pytest.approx(engine.classify(films[1], prompts))
    assert several[0] != pytest.approx(engine.classify(films[0], prompts))


def test_previous_images_that_cannot_be_used_are_named(
    engine: Engine, films: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    Image.fromarray(films[0]).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    good, gone, broken = (str(tmp_path / name) for name in ("good.png", "gone.png", "broken.png"))
    with pytest.raises(InputError) as raised:
        engine.image.encode([good, good, broken, good], [None, gone, good, broken])
    assert [(fault.index, fault.name) for fault in raised.value.faults] == [
        (1, f"{gone} (the previous image)"),
        (2, broken),
        (3, f"{broken} (the previous image)"),
    ]
    assert "3 of 7 images cannot be used" in str(raised.value)
    faults: list[Fault] = []
    rows = list(engine.image.encode_iter([good, good, good], [good, gone, None], on_fault=faults.append))
    assert [row is None for row in rows] == [False, True, False]
    assert [fault.index for fault in faults] == [1]
    assert np.abs(rows[2] - engine.image.encode(good)[0]).max() < 1e-6
    with pytest.raises(InputError, match=r"gone\.png"):
        engine.ground(good, "no edema", gone)


def test_as_many_previous_images_as_current_ones(engine: Engine, films: list[NDArray[np.uint8]]) -> None:
    message = "one for each is expected, None where there is none"
    for images, previous in ((films[:2], films[:3]), (films[:2], [films[0]]), (films[0], films[:2]), (films[:2], [])):
        with pytest.raises(InputError, match=message):
            engine.image.encode(images, previous)

    def endless() -> Iterator[NDArray[np.uint8]]:
        while True:
            yield films[0]

    with pytest.raises(InputError, match=message):
        list(engine.image.encode_iter(iter(films[:3]), endless()))
    with pytest.raises(InputError, match="dict"):
        engine.image.encode(films[:2], {"a": films[0], "b": films[1]})


def test_systems_of_single_images_and_bundles_without_the_graph_say_so(
    tmp_path: Path, bundle: Path, films: list[NDArray[np.uint8]]
) -> None:
    single = runtime.load(write_bundle(tmp_path / "single", [fp32()], [fp32()]), provider="cpu")
    pixels = single.image.load(films[0])[0][0].pixels[None]
    for call in (
        lambda: single.image.encode(films[0], films[1]),
        lambda: single.image.encode_patches(films[:1], [None]),
        lambda: single.image.encode_iter(films[:1], films[:1]),
        lambda: single.image.encode_pixels(pixels, previous=pixels),
        lambda: single.similarity(films[0], "no edema", films[1]),
        lambda: single.ground(films[0], "no edema", films[1]),
        lambda: single.classify(films[0], "pneumonia", previous=films[1]),
    ):
        with pytest.raises(InputError, match="this system embeds one image at a time"):
            call()
    folder = write_bundle(tmp_path / "without", [fp32()], [fp32()])
    edit_json(folder / "manifest.json", lambda data: data["image"].update(images=2))
    without = runtime.load(folder, provider="cpu")
    assert without.image.images == 2
    assert without.image.encode(films[0]).shape == (1, without.image.embedding_size)
    with pytest.raises(BundleError, match="has no image artifact in precision 'fp32'"):
        without.image.encode(films[0], films[1])


def test_commands_take_a_previous_image(
    bundle: Path, engine: Engine, films: list[NDArray[np.uint8]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, film in (("current", films[0]), ("previous", films[1])):
        Image.fromarray(film).save(tmp_path / f"{name}.png")
    image, before = str(tmp_path / "current.png"), str(tmp_path / "previous.png")
    options = ["--provider", "cpu", "--previous", before, "--json"]
    assert main(["similarity", str(bundle), image, "no edema", *options]) == 0
    alone, compared = engine.similarity(image, "no edema"), engine.similarity(image, "no edema", before)
    assert json.loads(capsys.readouterr().out)["similarity"] == pytest.approx(compared, abs=1e-6)
    assert alone != pytest.approx(compared, abs=1e-4)
    assert main(["ground", str(bundle), image, "no edema", "--out", str(tmp_path / "map.png"), *options]) == 0
    assert json.loads(capsys.readouterr().out)["similarity"] == pytest.approx(compared, abs=1e-6)
    assert main(["ground", str(bundle), image, "no edema", "--out", before, "--force", *options]) == 1
    assert "previous.png" in capsys.readouterr().err
