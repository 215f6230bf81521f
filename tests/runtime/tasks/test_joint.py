"""The arithmetic of scores and maps against SciPy, torch and the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from runtime.bundle.parts import RESIZES
from runtime.image.images import load_pixels
from runtime.image.resizing import seen_square
from runtime.tasks.grounding import Box, Grounding
from runtime.tasks.joint import _nearest, average_prompts, gaussian_smooth, map_to_image, patch_similarity
from tests.runtime.parts import grey_rule


@pytest.mark.parametrize("shape", [(15, 15), (14, 14), (3, 3), (1, 4), (2, 9)])
@pytest.mark.parametrize("sigma", [1.5, 0.4, 3.0])
def test_gaussian_equals_scipy(shape: tuple[int, int], sigma: float) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert np.abs(gaussian_smooth(values, sigma) - ndimage.gaussian_filter(values, sigma)).max() < 1e-6


def test_nearest_equals_torch_at_every_size() -> None:
    """torch computes the source index in float32; in exact arithmetic some sizes differ by one patch."""
    line = torch.arange(15, dtype=torch.float32)[None, None]
    for size in range(1, 3200):
        expected = torch.nn.functional.interpolate(line, size=size, mode="nearest")[0, 0].numpy()
        assert np.array_equal(_nearest(size, 15), expected.astype(int)), size


def test_map_to_image_equals_the_reference_for_odd_sizes() -> None:
    from health_multimodal.vlp import ImageTextInferenceEngine

    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(15, 15)).astype(np.float32)
    sizes = [(512, 512), (1477, 1198), (333, 500), (17, 33), (120, 1477), (2, 1), *rng.integers(10, 1500, (40, 2))]
    for width, height in sizes:
        expected = ImageTextInferenceEngine.convert_similarity_to_image_size(
            torch.tensor(similarity), int(width), int(height), 512, 480
        ) if min(width, height) > 1 else np.full((height, width), np.nan, np.float32)  # fmt: skip
        size = int(width), int(height)
        found = map_to_image(similarity, size, seen_square(grey_rule(512, 480), size))
        assert found.shape == (height, width)
        assert np.array_equal(found, expected, equal_nan=True), (width, height)


@pytest.mark.parametrize(("crop", "size"), [(96, 96), (80, 96)])
@pytest.mark.parametrize("resize", RESIZES)
def test_patches_lie_where_the_pixels_of_every_rule_come_from(resize: str, crop: int, size: int) -> None:
    """By images that say at each pixel where it is."""
    rule = grey_rule(size, crop, colours="rgb", resize=resize)
    for width, height in [(200, 151), (97, 250), (180, 180)]:
        across, down = np.meshgrid(np.linspace(10, 250, width), np.linspace(10, 250, height))
        loaded, _ = load_pixels([np.stack([across, down, down], -1).round().astype(np.uint8)], rule)
        patches = loaded[0].pixels.reshape(3, 8, crop // 8, 8, crop // 8).mean((2, 4))
        left, top, wide, high = seen_square(rule, (width, height))
        # Sizes, padding and corners are rounded to a pixel of the resized image.
        rounding = wide / crop + 0.5, high / crop + 0.5
        places = np.arange(8) + 0.5
        x, y = left + places * wide / 8, top + places * high / 8
        whole_x, whole_y = (  # patches without padding
            (start + np.arange(8) * side / 8 >= -0.5) & (start + np.arange(1, 9) * side / 8 <= length + 0.5)
            for start, side, length in ((left, wide, width), (top, high, height))
        )
        assert whole_x.sum() >= 2
        assert whole_y.sum() >= 2
        found_x, found_y = (patches[:2] - 10) / 240 * np.array([width - 1, height - 1])[:, None, None] + 0.5
        assert np.abs(found_x[whole_y][:, whole_x] - x[whole_x]).max() < rounding[0]
        assert np.abs(found_y[whole_y][:, whole_x] - y[whole_y, None]).max() < rounding[1]
        similarity = np.arange(64, dtype=np.float32).reshape(8, 8)
        drawn = map_to_image(similarity, (width, height), (left, top, wide, high))
        seen = np.isfinite(drawn)
        assert seen.all() == ((resize != "shortest" and crop == size) or (width == height and crop == size))
        for row in np.flatnonzero(whole_y):
            for column in np.flatnonzero(whole_x):
                assert drawn[int(y[row]), int(x[column])] == similarity[row, column]


def test_the_strongest_patch_lies_in_the_image() -> None:
    square = seen_square(grey_rule(96, 96, resize="longest"), (200, 100))
    assert square == (0, -50, 200, 200)
    patches = np.zeros((4, 4), np.float32)
    patches[0, 1], patches[1, 2], patches[3, 3] = 0.9, 0.5, 0.8
    drawn = map_to_image(patches, (200, 100), square)
    found = Grounding(drawn, 0.1, Box(*square), patches)
    assert found.strongest == (1, 2)
    assert np.nanmax(drawn) == patches[found.strongest] == np.float32(0.5)


def test_patch_similarity_equals_the_reference() -> None:
    from health_multimodal.vlp import ImageTextInferenceEngine

    generator = torch.Generator().manual_seed(0)
    patches = torch.nn.functional.normalize(torch.randn(15, 15, 128, generator=generator), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(1, 128, generator=generator), dim=-1)
    expected = ImageTextInferenceEngine._get_similarity_map_from_embeddings(patches, text).numpy()
    found = patch_similarity(patches.numpy(), text[0].numpy())
    assert np.abs(found - expected).max() < 1e-6
    assert not np.allclose(found, patches.numpy() @ text[0].numpy(), atol=1e-3), "it is smoothed"


def test_prompts_are_averaged_before_normalization() -> None:
    prompts = np.array([[3.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    assert np.allclose(average_prompts(prompts), np.array([3, 1]) / np.sqrt(10))
