"""Pixels against the reference's own loader and torchvision's transforms, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.samples import chest_phantom
from runtime.errors import InputError
from runtime.image import pixels, resizing
from runtime.image.dicom_options import DicomOptions
from runtime.image.given_images import as_image_list
from runtime.image.images import load_pixels, read_grey, remap_to_uint8, resize_and_crop
from tests.runtime.parts import grey_rule

REFERENCE = DicomOptions(invert_monochrome1=False, padding="keep")
SIZES = [
    (512, 512),
    (480, 480),
    (513, 512),
    (512, 515),
    (512, 1300),
    (1300, 512),
    (700, 333),
    (97, 1400),
    (1400, 23),
    (1201, 1477),
    (31, 33),
    (2, 3),
    (1, 60),
]


def reference_pixels(path: Path) -> np.ndarray:
    """uint8 (480, 480): the reference's loader and transforms, up to the division by 255."""
    from health_multimodal.image.data.io import load_image
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference

    transform = create_chest_xray_transform_for_inference(512, 480)
    values = transform(load_image(path)).numpy()
    assert np.array_equal(values[0], values[1])
    bytes_ = np.round(values[0] * 255).astype(np.uint8)
    assert np.array_equal(bytes_.astype(np.float32) / np.float32(255), values[0])
    return bytes_


def runtime_pixels(image: object) -> np.ndarray:
    loaded, faults = load_pixels([image], grey_rule(512, 480), REFERENCE)
    assert not faults, faults
    return loaded[0].pixels


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and found.dtype == expected.dtype and np.array_equal(found, expected)


@pytest.fixture(params=SIZES, ids=str)
def phantom(request: pytest.FixtureRequest) -> np.ndarray:
    return chest_phantom(*request.param, seed=sum(request.param))


def test_8_and_16_bit_png_of_odd_sizes(phantom: np.ndarray, tmp_path: Path) -> None:
    for array in (phantom, phantom.astype(np.uint16) * 251 + 77):
        file = tmp_path / "image.png"
        Image.fromarray(array).save(file)
        assert same(runtime_pixels(file), reference_pixels(file))
        assert same(runtime_pixels(array), reference_pixels(file))


@pytest.mark.parametrize("narrow", [False, True], ids=["0-255", "narrow"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_png_modes(mode: str, narrow: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    colours = np.stack([chest_phantom(530, 620, seed) for seed in range(3)], axis=-1)
    colours[:2, :2] = np.array([[0], [255]], dtype=np.uint8)[:, :, None]
    if narrow:
        colours = colours // 2 + 31
    image = Image.fromarray(colours)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(rng.integers(40, 250, colours.shape[:2], dtype=np.uint8)))
    image = image.convert(mode)
    file = tmp_path / "image.png"
    image.save(file)
    assert same(runtime_pixels(file), reference_pixels(file))
    with Image.open(file) as opened:
        assert same(runtime_pixels(opened), reference_pixels(file)), "a Pillow image equals its file"


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("narrow", [False, True], ids=["0-255", "narrow"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(mode: str, narrow: bool, progressive: bool, tmp_path: Path) -> None:
    colours = np.stack([chest_phantom(800, 641, seed) for seed in range(3)], axis=-1)
    colours[:40, :40], colours[40:80, :40] = 0, 255
    file = tmp_path / "image.jpg"
    Image.fromarray(colours // 2 + 31 if narrow else colours).convert(mode).save(
        file, quality=83, progressive=progressive
    )
    with Image.open(file) as stored:
        assert (np.asarray(stored).min() == 0) != narrow
    assert same(runtime_pixels(file), reference_pixels(file))


def test_cmyk_jpeg_is_its_rgb(tmp_path: Path) -> None:
    """The reference takes the fourth channel for transparency and the others for red, green and blue."""
    colours = np.stack([chest_phantom(600, 541, seed) for seed in range(3)], axis=-1)
    file, converted = tmp_path / "image.jpg", tmp_path / "image.png"
    Image.fromarray(colours).convert("CMYK").save(file)
    with Image.open(file) as stored:
        assert stored.mode == "CMYK"
        stored.convert("RGB").save(converted)
    assert same(runtime_pixels(file), reference_pixels(converted))
    assert not same(runtime_pixels(file), reference_pixels(file))


def test_exif_orientation_is_ignored_as_in_the_reference(tmp_path: Path) -> None:
    file = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(chest_phantom(600, 500)).save(file, exif=exif)
    assert same(runtime_pixels(file), reference_pixels(file))


def test_shared_radiographs(shared_data: Path) -> None:
    files = [file for file in sorted((shared_data / "images").iterdir()) if "nometa" not in file.name]
    assert len(files) == 10
    for file in files:
        assert same(runtime_pixels(file), reference_pixels(file)), file.name


def test_negative_control_crop_off_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "image.png"
    Image.fromarray(chest_phantom(700, 601)).save(file)
    expected = reference_pixels(file)
    monkeypatch.setattr(resizing, "round", lambda value: round(value) + 1, raising=False)
    assert not same(runtime_pixels(file), expected)


def test_negative_control_swapped_channels(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    colours = np.stack([chest_phantom(600, 600, seed) for seed in range(3)], axis=-1)
    Image.fromarray(colours).save(file)
    assert same(runtime_pixels(colours), reference_pixels(file))
    assert not same(runtime_pixels(colours[..., ::-1]), reference_pixels(file))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?"])
def test_remap_equals_the_reference_for_every_dtype(dtype: str) -> None:
    from health_multimodal.image.data.io import remap_to_uint8 as reference

    rng = np.random.default_rng(0)
    low = 0 if np.dtype(dtype).kind in "ub" else -100
    array = rng.integers(low, 2 if dtype == "?" else 120, (40, 50)).astype(dtype)
    assert same(remap_to_uint8(array), reference(array))


def test_remap_is_the_reference_s_for_every_range_of_fixed_point() -> None:
    from health_multimodal.image.data.io import remap_to_uint8 as reference

    values = np.arange(4100, dtype=np.uint16)
    assert all(same(remap_to_uint8(values[: end + 1]), reference(values[: end + 1])) for end in range(1, 4100))


@pytest.mark.parametrize("spread", [4095, 4096, 4097, 5000, 32767, 65534, 65535])
def test_remap_of_more_bits(spread: int) -> None:
    from health_multimodal.image.data.io import remap_to_uint8 as reference

    values = np.arange(spread + 1, dtype=np.uint16)
    several_blocks = np.stack([np.roll(values, shift) for shift in range(9)])
    for array in (values, several_blocks, several_blocks.T, several_blocks[::2, ::-1].astype(np.int32) - 70000):
        assert same(remap_to_uint8(array), reference(array))


def test_negative_control_remap_that_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    from health_multimodal.image.data.io import remap_to_uint8 as reference

    values = np.arange(4000, dtype=np.uint16)
    monkeypatch.setattr(pixels, "_FIXED_POINT_BITS", 16)
    assert not same(remap_to_uint8(values), reference(values)), "16 bits of fraction are too few"


def test_remap_at_the_ends_of_the_integers() -> None:
    from health_multimodal.image.data.io import remap_to_uint8 as reference

    for array in (
        np.array([[-32768, 32767], [0, 5]], np.int16),
        np.array([[-(2**31), 2**31 - 1], [0, 5]], np.int32),
        np.arange(65536, dtype=np.uint16).reshape(256, 256),
    ):
        assert same(remap_to_uint8(array), reference(array))


def test_resize_and_crop_equals_torchvision() -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize

    rng = np.random.default_rng(1)
    for _ in range(60):
        height, width = rng.integers(20, 900, 2)
        image = Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))
        expected = np.asarray(Compose([Resize(512), CenterCrop(480)])(image))
        assert same(resize_and_crop(image, grey_rule(512, 480)), expected), (height, width)


def faulty(image: object) -> str:
    loaded, faults = load_pixels([image], grey_rule(512, 480))
    assert not loaded
    return f"{faults[0].name}: {faults[0].reason}"


def test_bad_arrays_are_named_with_a_reason() -> None:
    grey = chest_phantom(50, 60)
    assert "is constant (every value is 7)" in faulty(np.full((9, 9), 7))
    assert "NaN or infinite" in faulty(np.where(grey > 100, np.nan, grey.astype(float)))
    assert "too far apart" in faulty(np.array([[-1.7e308, 1.7e308]]))
    assert "shape (5, 50, 60)" in faulty(np.stack([grey] * 5))
    assert "shape (50,)" in faulty(grey[:, 0])
    assert "is empty" in faulty(np.empty((0, 5)))
    assert "dtype complex128" in faulty(grey.astype(complex))
    assert "ratio of at most 64 : 1" in faulty(chest_phantom(4, 1000))
    assert "a int; a path" in faulty(3).replace("is a", "a")


def test_bad_files_are_named_with_a_reason(tmp_path: Path) -> None:
    assert "there is no such file" in faulty(tmp_path / "absent.png")
    assert "Is a directory" in faulty(tmp_path)
    assert "too long" in faulty("a long report " * 40)
    text = tmp_path / "text.png"
    text.write_text("not an image")
    assert "not an image of a known format; supported are JPEG, PNG, DICOM" in faulty(text)
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    Image.fromarray(chest_phantom(300, 300)).save(whole)
    cut.write_bytes(whole.read_bytes()[:3000])
    assert str(cut) in faulty(cut)
    assert "cannot be decoded" in faulty(cut)
    assert "cannot be decoded" in faulty(Image.open(cut))


def test_grey_images_keep_their_size(tmp_path: Path) -> None:
    assert read_grey(chest_phantom(30, 50)).size == (50, 30)


def test_images_that_are_given_stay_as_they_are() -> None:
    for low, high in ((0, 255), (20, 90)):
        array = np.clip(chest_phantom(300, 310), low, high)
        array[0, :2] = low, high
        image = Image.fromarray(array.copy())
        for item in (array, image):
            runtime_pixels(item)
            assert np.array_equal(np.asarray(item), np.clip(array, low, high))


def test_one_or_many() -> None:
    grey = chest_phantom(20, 30)
    assert len(as_image_list(grey)) == 1
    assert len(as_image_list(np.stack([grey] * 3, axis=-1))) == 1, "RGB"
    assert len(as_image_list(grey[:, :, None])) == 1, "one channel"
    assert np.array_equal(np.asarray(read_grey(grey[:, :, None])), np.asarray(read_grey(grey)))
    assert np.array_equal(np.asarray(read_grey(np.ma.masked_greater(grey, 90))), np.asarray(read_grey(grey)))
    assert len(as_image_list(np.stack([grey] * 5))) == 5, "a stack of five"
    assert len(as_image_list(Image.fromarray(grey))) == 1
    assert len(as_image_list("a.png")) == 1
    assert len(as_image_list(path for path in ("a.png", grey))) == 2
    with pytest.raises(InputError, match="empty"):
        as_image_list([])
    with pytest.raises(InputError, match="int came"):
        as_image_list(5)  # type: ignore[arg-type]
