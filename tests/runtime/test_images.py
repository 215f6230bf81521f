"""Pixels against the reference's own loader and torchvision's transforms, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.phantom import chest_phantom
from runtime import pixels
from runtime.errors import InputError
from runtime.images import as_image_list, load_pixels, read_grey, remap_to_uint8, resize_and_crop

SIZES = [(512, 512), (480, 480), (513, 512), (512, 515), (700, 333), (97, 1400), (1201, 1477), (31, 33), (2, 3)]


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
    loaded, faults = load_pixels([image], 512, 480, invert_monochrome1=False)
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


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_png_modes(mode: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    colours = np.stack([chest_phantom(530, 620, seed) for seed in range(3)], axis=-1)
    image = Image.fromarray(colours)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(rng.integers(40, 250, colours.shape[:2], dtype=np.uint8)))
    image = image.convert(mode)
    file = tmp_path / "image.png"
    image.save(file)
    assert same(runtime_pixels(file), reference_pixels(file))
    with Image.open(file) as opened:
        assert same(runtime_pixels(opened), reference_pixels(file)), "a Pillow image equals its file"


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(mode: str, tmp_path: Path) -> None:
    colours = np.stack([chest_phantom(800, 641, seed) for seed in range(3)], axis=-1)
    file = tmp_path / "image.jpg"
    Image.fromarray(colours).convert(mode).save(file, quality=83)
    assert same(runtime_pixels(file), reference_pixels(file))


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
    monkeypatch.setattr(pixels, "round", lambda value: round(value) + 1, raising=False)
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
        assert same(resize_and_crop(image, 512, 480), expected), (height, width)


def faulty(image: object) -> str:
    loaded, faults = load_pixels([image], 512, 480)
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
