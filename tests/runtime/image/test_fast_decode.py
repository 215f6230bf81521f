"""JPEG decoded at a fraction of its size: what it changes and what it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.engines import Sessions
from runtime.image import images as images_module
from runtime.image.encoder import ImageEncoder
from tests.conftest import System
from tests.runtime.parts import image_part

PART = image_part(64, 48, 3, embedding_size=4)


class Unused:
    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray]) -> list[NDArray[np.float32]]:
        raise AssertionError("loading images computes nothing")


def loader(fast_decode: bool = False) -> ImageEncoder:
    return ImageEncoder(PART, Sessions(lambda _: Unused(), 1), threads=1, fast_decode=fast_decode, batch=4)


def big_jpeg(path: Path, mode: str = "L", size: tuple[int, int] = (601, 411)) -> Path:
    colours = np.stack([chest_phantom(size[1], size[0], seed) for seed in range(3)], axis=-1)
    Image.fromarray(colours).convert(mode).save(path, quality=92)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_fast_decoding_of_jpeg_changes_pixels_a_little_and_the_size_not_at_all(tmp_path: Path, mode: str) -> None:
    file = big_jpeg(tmp_path / "a.jpg", mode)
    exact, fast = loader().load([file])[0][0], loader(fast_decode=True).load([file])[0][0]
    assert fast.size == exact.size == (601, 411)
    assert not np.array_equal(fast.pixels, exact.pixels)
    # Other extremes are stretched to 0–255, so the values may differ more than the picture.
    likeness = np.corrcoef(fast.pixels.ravel(), exact.pixels.ravel())[0, 1]
    displaced = np.corrcoef(np.roll(fast.pixels, 1, axis=1).ravel(), exact.pixels.ravel())[0, 1]
    assert likeness > 0.995
    assert likeness > displaced + 0.003


def test_fast_decoding_reads_fewer_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    prepare = images_module.resize_and_crop

    def watched(image: Image.Image, *rest: object) -> NDArray[np.uint8]:
        sizes.append(image.size)
        return prepare(image, *rest)

    monkeypatch.setattr(images_module, "resize_and_crop", watched)
    fast = loader(fast_decode=True)
    for size in ((601, 411), (300, 513), (140, 200), (127, 300)):
        fast.load([big_jpeg(tmp_path / "a.jpg", size=size)])
    assert sizes == [(151, 103), (75, 129), (70, 100), (127, 300)], "the shorter side keeps 64 pixels"


def test_fast_decoding_leaves_everything_else_alone(tmp_path: Path) -> None:
    grey = chest_phantom(411, 601)
    png = tmp_path / "a.png"
    Image.fromarray(grey).save(png)
    jpeg = big_jpeg(tmp_path / "a.jpg")
    fast, exact = loader(fast_decode=True), loader()
    for item in (png, grey, Image.fromarray(grey), Image.open(jpeg)):
        assert np.array_equal(fast.load([item])[0][0].pixels, exact.load([item])[0][0].pixels)
    assert images_module.read_grey(jpeg).size == (601, 411), "overlays are drawn on all pixels"


def test_the_engine_passes_fast_decode_on(tiny: System, tmp_path: Path) -> None:
    file = big_jpeg(tmp_path / "a.jpg")
    engines = [runtime.load(tiny.bundle, provider="cpu", fast_decode=fast) for fast in (False, True)]
    exact, fast = (engine.image.encode(file)[0] for engine in engines)
    assert np.abs(exact - fast).max() > 1e-6
    assert exact @ fast > 0.99
    maps = [engine.similarity_map(file, "opacity") for engine in engines]
    assert maps[0].shape == maps[1].shape == (411, 601)
    assert np.array_equal(np.isnan(maps[0]), np.isnan(maps[1]))
