"""The arithmetic of scores and maps against SciPy, torch and the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from runtime.tasks.joint import _nearest, average_prompts, gaussian_smooth, map_to_image, patch_similarity


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
        found = map_to_image(similarity, (int(width), int(height)), 512, 480)
        assert found.shape == (height, width)
        assert np.array_equal(found, expected, equal_nan=True), (width, height)


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
