"""Resizing as OpenCV's INTER_AREA does it, and GLoRIA's pixels, to the byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.proof.pixel_parity import exact_pixels, pixel_parity
from runtime.bundle.parts import Preprocessing
from runtime.image.area import resize_area
from runtime.image.images import load_pixels
from tests.runtime.image import opencv

GLORIA = Preprocessing("luminance", "longest by factor", 256, "area", 224, "even", (0.5,), (0.5,))
SMALL = replace(GLORIA, size=32, crop=28)
# Old width and height → new: shrinking, by whole numbers, by two, along one axis alone, enlarging.
CASES = [
    ((37, 23), (16, 10)), ((50, 50), (32, 31)), ((45, 30), (15, 10)), ((32, 24), (16, 12)), ((30, 24), (15, 12)),
    ((40, 7), (13, 7)), ((20, 13), (32, 20)), ((9, 31), (12, 20)), ((64, 1), (33, 1)), ((1, 5), (3, 2)),
    ((33, 33), (33, 33)),
]  # fmt: skip
# (row · 31 + column · 17) mod 256 of 9 × 7 pixels by OpenCV 4.5.5 and 5.0.0.
PATTERN = ((np.arange(7)[:, None] * 31 + np.arange(9) * 17) % 256).astype(np.uint8)
OPENCV = {
    (4, 3): [[33, 71, 109, 147], [104, 142, 180, 185], [175, 213, 129, 53]],
    (11, 3): [
        [18, 31, 44, 57, 70, 86, 101, 114, 127, 140, 154],
        [84, 97, 111, 124, 137, 152, 167, 180, 194, 207, 220],
        [150, 164, 177, 190, 203, 218, 234, 101, 41, 46, 30],
    ],
}


def noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng([seed, width, height])
    values = rng.integers(0, 256, (height, width), dtype=np.uint8)
    return values if seed % 2 == 0 else (values // 128 * 255).astype(np.uint8)


@pytest.mark.parametrize("size", OPENCV)
def test_opencv_s_own_pixels(size: tuple[int, int]) -> None:
    """The written-out twin that the other tests compare with is held to them too."""
    for resize in (resize_area, opencv.resize_area):
        assert resize(PATTERN, size).tolist() == OPENCV[size]


@pytest.mark.parametrize(("old", "new"), CASES)
def test_every_way_of_resizing(old: tuple[int, int], new: tuple[int, int]) -> None:
    for seed in range(4):
        image = noise(*old, seed)
        expected = opencv.resize_area(image, new)
        assert np.array_equal(resize_area(image, new), expected)
        colours = np.stack([image, image[::-1], 255 - image], axis=-1)
        assert np.array_equal(resize_area(colours, new)[..., 0], expected)


def test_with_opencv_itself() -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed; the written-out twin is compared")
    for old, new in [*CASES, ((300, 513), (149, 256)), ((1031, 640), (256, 158)), ((512, 512), (256, 256))]:
        for seed in range(4):
            image = noise(*old, seed)
            assert np.array_equal(resize_area(image, new), cv2.resize(image, new, interpolation=cv2.INTER_AREA))


def test_gloria_s_pixels() -> None:
    for width, height in [(49, 49), (37, 61), (61, 37), (64, 64), (23, 20), (98, 5), (32, 32), (128, 96)]:
        image = noise(width, height)
        square = opencv.resize_as_gloria(image, 32)
        loaded, faults = load_pixels([image], SMALL)
        assert not faults
        assert np.array_equal(loaded[0].pixels, square[2:30, 2:30]), (width, height)


def test_a_rounded_factor_may_lose_a_column() -> None:
    """49 · (256 / 49) is below 256 in floating point: GLoRIA pads a column of black."""
    white = np.full((49, 49), 255, np.uint8)
    whole = replace(GLORIA, crop=256)
    pixels = load_pixels([white], whole)[0][0].pixels
    assert (pixels[:, -1] == 0).all()
    assert (pixels[:, :-1] == 255).all()
    assert load_pixels([white], replace(whole, resize="longest"))[0][0].pixels.min() == 255


def test_eight_bits_stay_as_they_are(tmp_path: Path) -> None:
    """As OpenCV reads them: no stretching, which BioViL's rule has; of deep values the project's own."""
    dull = 60 + noise(40, 40) // 4
    as_is = load_pixels([dull], SMALL)[0][0].pixels
    assert 60 <= as_is.min() < as_is.max() <= 124
    assert load_pixels([dull], replace(SMALL, colours="grey"))[0][0].pixels.max() > 200
    Image.fromarray(np.stack([dull] * 3, -1)).save(tmp_path / "colours.png")
    Image.fromarray(dull).save(tmp_path / "grey.png")
    for name in ("colours.png", "grey.png"):
        assert np.array_equal(load_pixels([tmp_path / name], SMALL)[0][0].pixels, as_is)
    deep = load_pixels([dull.astype(np.uint16) * 100], SMALL)[0][0].pixels
    assert np.array_equal(deep, load_pixels([dull], replace(SMALL, colours="grey"))[0][0].pixels)


def test_what_an_export_compares_pixels_with() -> None:
    record = pixel_parity(GLORIA)
    assert record.figures == {"differing": 0.0}
    assert record.cases.startswith("pixels of 14 phantoms")
    assert "exact means" in record.reference
    exact = exact_pixels(Image.fromarray(noise(300, 411)), GLORIA)
    found = resize_area(noise(300, 411), (186, 256))
    assert np.abs(exact[:, 19:205] - found[16:240]).max() < 0.501
    by_box = np.asarray(Image.fromarray(noise(300, 411)).resize((186, 256), Image.Resampling.BILINEAR))
    assert np.abs(exact[:, 19:205] - by_box[16:240]).max() > 1, "the negative control"


def test_negative_control_pillow_s_box_filter_is_another() -> None:
    image = noise(37, 23)
    boxes = np.asarray(Image.fromarray(image).resize((16, 10), Image.Resampling.BOX))
    assert not np.array_equal(resize_area(image, (16, 10)), boxes)


def test_of_a_reduction_the_part_that_stands_for_the_original() -> None:
    """fast_decode: half of 51 columns are 26, of which the last stands for half a pixel."""
    image = noise(26, 20)
    found = resize_area(image, (13, 10), (25.5, 20.0))
    assert np.abs(found.astype(int) - resize_area(image[:, :25], (13, 10))).max() > 0
    assert np.array_equal(resize_area(image, (13, 10), (26.0, 20.0)), resize_area(image, (13, 10)))
