"""Every rule of preprocessing, byte for byte, against torchvision on Pillow images and transformers' Pillow backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, v2
from transformers import CLIPImageProcessorPil

import runtime
from export.samples import chest_phantom
from runtime.bundle.parts import COLOURS, CROP_ROUNDINGS, INTERPOLATIONS, RESIZES, Preprocessing
from runtime.errors import BundleError, InputError
from runtime.image import images as images_module
from runtime.image.images import _TO_8_BITS, load_pixels
from runtime.image.resizing import _FILTERS, _ROUNDINGS, _SIZES
from tests.conftest import edit_json
from tests.runtime.handmade import GRID, fp32, write_bundle

RGB = Preprocessing("rgb", "shortest", 64, "bicubic", 64, "down", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
GREY = replace(RGB, colours="grey", mean=(0.0,), std=(1.0,))
# Others are OpenCV's and GLoRIA's: see test_area.py.
PILLOW = [each for each in INTERPOLATIONS if each != "area"]
TORCHVISION = [each for each in RESIZES if each != "longest by factor"]
# 65 to 76 wide after resizing: all remainders of a crop of 64. Then odd ones, an enlargement and a very long one.
SIZES = [(64 + extra, 64) for extra in range(13)] + [(64, 67), (101, 333), (333, 101), (40, 31), (17, 900), (64, 64)]


def reference(image: Image.Image, rule: Preprocessing) -> NDArray[np.uint8]:
    """uint8 (crop, crop) or (3, crop, crop)."""
    interpolation = InterpolationMode[rule.interpolation.upper()]
    if rule.crop_rounding == "even":
        resize = {
            "shortest": Resize(rule.size, interpolation),
            "longest": Compose([v2.Resize(None, interpolation, max_size=rule.size), CenterCrop(rule.size)]),
            "squash": Resize((rule.size, rule.size), interpolation),
        }[rule.resize]
        image = image.convert("L" if rule.colours == "grey" else "RGB")
        pixels = np.asarray(CenterCrop(rule.crop)(resize(image)))
        return pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if rule.resize == "longest":  # transformers pads no square
        image = v2.Resize(None, interpolation, max_size=rule.size)(image.convert("RGB"))
        image = CenterCrop(rule.size)(image)
    if "A" in image.getbands():  # which transformers 5 lays on white, unlike 4 and the packages of CLIP's authors
        image = image.convert("RGB")
    processor = CLIPImageProcessorPil(
        do_resize=rule.resize != "longest",
        size={"shortest_edge": rule.size} if rule.resize == "shortest" else {"height": rule.size, "width": rule.size},
        resample={"bilinear": 2, "bicubic": 3, "lanczos": 1}[rule.interpolation],
        crop_size={"height": rule.crop, "width": rule.crop},
        do_rescale=False,
        do_normalize=False,
    )
    pixels = np.asarray(processor(image)["pixel_values"][0])
    return pixels[0] if rule.colours == "grey" else pixels


def pixels_of(image: object, rule: Preprocessing, **options: object) -> NDArray[np.uint8]:
    loaded, faults = load_pixels([image], rule, **options)
    assert not faults, faults
    assert loaded[0].pixels.dtype == np.uint8
    assert loaded[0].pixels.shape == rule.shape
    return loaded[0].pixels


def film(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise over a phantom, so that no filter resembles another, from 0 to 255."""
    noise = np.random.default_rng(seed).integers(0, 90, (height, width))
    values = np.clip(chest_phantom(height, width, seed).astype(int) + noise - 45, 0, 255).astype(np.uint8)
    values[0, 0], values[-1, -1] = 0, 255
    return Image.fromarray(values)


def coloured(width: int, height: int) -> Image.Image:
    return Image.merge("RGB", [film(width, height, seed) for seed in range(3)])


def transparent(width: int, height: int) -> Image.Image:
    image = coloured(width, height)
    image.putalpha(film(width, height, 3))
    return image


def palette(width: int, height: int) -> Image.Image:
    return coloured(width, height).quantize(32)


MODES: dict[str, Callable[[int, int], Image.Image]] = {
    "L": film,
    "LA": lambda width, height: film(width, height).convert("LA"),
    "RGB": coloured,
    "RGBA": transparent,
    "P": palette,
    "CMYK": lambda width, height: coloured(width, height).convert("CMYK"),
    "1": lambda width, height: film(width, height).convert("1"),
}


@pytest.mark.parametrize("crop", [64, 61])
@pytest.mark.parametrize("crop_rounding", CROP_ROUNDINGS)
@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize("resize", TORCHVISION)
@pytest.mark.parametrize("colours", ["grey", "rgb"])
def test_every_rule_at_odd_sizes(colours: str, resize: str, interpolation: str, crop_rounding: str, crop: int) -> None:
    rule = replace(
        GREY if colours == "grey" else RGB,
        resize=resize,
        interpolation=interpolation,
        crop_rounding=crop_rounding,
        crop=crop,
    )
    for width, height in SIZES:
        for image in (film(width, height), coloured(width, height)) if colours == "rgb" else (film(width, height),):
            found = pixels_of(image, rule)
            assert np.array_equal(found, reference(image, rule)), (width, height, image.mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("crop_rounding", CROP_ROUNDINGS)
def test_every_mode_becomes_rgb_first(crop_rounding: str, mode: str) -> None:
    rule = replace(RGB, crop_rounding=crop_rounding, crop=59)
    image = MODES[mode](101, 83)
    assert np.array_equal(pixels_of(image, rule), reference(image, rule))


def test_eight_bits_stay_and_sixteen_are_stretched(tmp_path: Path) -> None:
    """Pillow's own conversion of 16 bits makes white of all from 255 on: no reference for radiographs."""
    dull = film(101, 83).point(lambda value: 40 + value // 4)
    values = np.asarray(dull)
    assert np.array_equal(pixels_of(dull, RGB), reference(dull, RGB))
    assert np.array_equal(pixels_of(values, RGB), reference(dull, RGB))
    assert pixels_of(dull, RGB).max() < 110
    assert pixels_of(dull, GREY).max() == 255
    stretched = values.astype(float) - values.min()
    expected = reference(Image.fromarray((stretched / stretched.max() * 255).astype(np.uint8)), RGB)
    deep = values.astype(np.uint16) * 200 + 300
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for given in (deep, tmp_path / "deep.png", values.astype(np.float32) / 7):
        assert np.array_equal(pixels_of(given, RGB), expected)
    assert np.unique(reference(Image.fromarray(deep), RGB)).tolist() == [255], "the trap"


def test_a_constant_image_has_colours_but_cannot_be_stretched() -> None:
    assert np.array_equal(pixels_of(Image.new("RGB", (70, 70), (1, 2, 3)), RGB)[:, 0, 0], [1, 2, 3])
    _, faults = load_pixels([Image.new("RGB", (70, 70), (2, 2, 2)), np.full((70, 70), 7, np.uint16)], GREY)
    assert ["is constant" in fault.reason for fault in faults] == [True, True]
    _, faults = load_pixels([np.full((70, 70), 7, np.uint16)], RGB)
    assert "is constant" in faults[0].reason


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("resize", "longest"),
        ("resize", "squash"),
        ("interpolation", "bilinear"),
        ("interpolation", "lanczos"),
        ("crop_rounding", "even"),
        ("size", 65),
    ],
)
def test_negative_control_another_rule_gives_other_pixels(field: str, other: object) -> None:
    image = coloured(142, 128)  # 7 columns to cut off once it is resized: 3 or 4
    assert np.array_equal(pixels_of(image, RGB), reference(image, RGB))
    assert not np.array_equal(pixels_of(image, replace(RGB, **{field: other})), reference(image, RGB))


def test_the_tables_have_what_manifests_may_say() -> None:
    assert (tuple(_SIZES), tuple(_FILTERS), tuple(_ROUNDINGS)) == (RESIZES, INTERPOLATIONS, CROP_ROUNDINGS)
    assert tuple(_TO_8_BITS) == COLOURS


def test_sides_too_far_apart_are_refused() -> None:
    line = Image.fromarray(np.arange(2 * 1000, dtype=np.uint8).reshape(1000, 2))
    for resize, reason in (("shortest", "at most 512 : 1"), ("longest", "at most 64 : 1"), ("squash", None)):
        rule = replace(GREY, resize=resize)
        image = line if resize == "longest" else line.resize((1, 1000))
        _, faults = load_pixels([image], rule)
        found = [fault.reason.rpartition("ratio of ")[2] for fault in faults]
        assert found == ([f"{reason} are expected"] if reason else [])


@pytest.mark.parametrize("interpolation", ["bicubic", "area"])
@pytest.mark.parametrize("resize", RESIZES)
def test_fast_decoding_keeps_as_many_pixels_as_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: str, interpolation: str
) -> None:
    rule = replace(RGB, resize=resize, interpolation=interpolation)
    coloured(300, 150).save(tmp_path / "film.jpg")
    sizes = []

    def watched(image: Image.Image, *arguments: object) -> NDArray[np.uint8]:
        sizes.append(image.size)
        return prepare(image, *arguments)

    prepare = images_module.resize_and_crop
    monkeypatch.setattr(images_module, "resize_and_crop", watched)
    fast, exact = (pixels_of(tmp_path / "film.jpg", rule, fast_decode=fast) for fast in (True, False))
    # To 128 × 64, 64 × 32 and 64 × 64.
    assert sizes == [(75, 38) if resize.startswith("longest") else (150, 75), (300, 150)]
    assert np.abs(fast.astype(int) - exact).mean() < 6
    assert not np.array_equal(fast, exact)


def test_unknown_rules_are_refused_with_what_is_known(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", [fp32()], [fp32()])
    rules = {"colours": "sepia", "resize": "tile", "interpolation": "nearest", "crop_rounding": "up"}
    edit_json(folder / "manifest.json", lambda data: data["image"]["preprocessing"].update(rules, std=[0.0]))
    with pytest.raises(BundleError) as raised:
        runtime.load(folder)
    for name, value in rules.items():
        assert f"image.preprocessing.{name} is '{value}'; this version knows: " in str(raised.value)
    assert "lanczos" in str(raised.value)
    assert "a std that is not more than 0" in str(raised.value)


def test_bundles_of_more_than_two_images_are_refused_when_loaded(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", [fp32()], [fp32()])
    edit_json(folder / "manifest.json", lambda data: data["image"].update(images=3))
    with pytest.raises(BundleError, match=r"image.images is 3; 1, or 2 \(a current and a previous one\), is expected"):
        runtime.load(folder)


def test_an_engine_of_colours_embeds_files_arrays_and_its_own_pixels(tmp_path: Path) -> None:
    """The handmade graph is a convolution per patch: by numpy as well."""
    rule = replace(RGB, resize="longest", size=96, crop=96)
    folder = write_bundle(tmp_path / "bundle", image=[fp32()], rule=rule)
    image = coloured(120, 90)
    image.save(tmp_path / "film.png")
    engine = runtime.load(folder, provider="cpu")
    pixels = reference(image, rule)
    found = engine.image.encode([tmp_path / "film.png", image, np.asarray(image)])
    assert np.abs(found - engine.image.encode_pixels(pixels[None])).max() == 0
    kernel = onnx.numpy_helper.to_array(onnx.load(folder / "image" / "onnx" / "model_fp32.onnx").graph.initializer[0])
    patches = pixels.reshape(3, GRID, 32, GRID, 32).astype(np.float64)
    expected = np.einsum("cyixj,dcij->yxd", patches, kernel)
    expected = expected.mean((0, 1)) / np.linalg.norm(expected.mean((0, 1)))
    assert np.abs(found - expected).max() < 1e-5
    with pytest.raises(InputError, match=r"uint8 \(N, 3, 96, 96\) is expected"):
        engine.image.encode_pixels(np.zeros((1, 96, 96), np.uint8))
    with pytest.raises(InputError, match=r"uint8 \(N, 3, 96, 96\) is expected"):
        engine.image.encode_pixels(np.zeros((1, 96, 96, 3), np.uint8))
