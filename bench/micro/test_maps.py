"""A patch map → a map of the image's size, beside the reference package; and nearest neighbours beside numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.bundle.parts import Preprocessing
from runtime.image.resizing import seen_square
from runtime.tasks.joint import gaussian_smooth, map_to_image

_SIZE = (2048, 2500)  # width, height
_RULE = Preprocessing("grey", "shortest", 512, "bilinear", 480, "even", mean=(0.0,), std=(1.0,))


@pytest.fixture(scope="module")
def patches() -> NDArray[np.float32]:
    """A map of 15 × 15 patches."""
    return np.random.default_rng(0).normal(size=(15, 15)).astype(np.float32)


def _scipy(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    from scipy import ndimage

    smooth: NDArray[np.float32] = ndimage.gaussian_filter(values, sigma)
    return smooth


@pytest.mark.parametrize("way", [gaussian_smooth, _scipy], ids=["runtime", "scipy"])
@pytest.mark.benchmark(group="smooth a patch map", max_time=0.3)
def test_smooth(benchmark: Any, way: Callable[..., NDArray[np.float32]], patches: NDArray[np.float32]) -> None:
    """σ = 1.5 patches."""
    assert np.abs(way(patches, 1.5) - _scipy(patches, 1.5)).max() < 1e-6
    benchmark(way, patches, 1.5)


def _ours(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    return map_to_image(patches, _SIZE, seen_square(_RULE, _SIZE))


def _reference(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarged by torch's interpolate."""
    import torch
    from health_multimodal.vlp import ImageTextInferenceEngine

    convert = ImageTextInferenceEngine.convert_similarity_to_image_size
    enlarged: NDArray[np.float32] = convert(torch.from_numpy(patches), *_SIZE, _RULE.size, _RULE.crop)
    return enlarged


@pytest.mark.parametrize("way", [_ours, _reference], ids=["runtime", "reference"])
@pytest.mark.benchmark(group="patch map → 2,500 × 2,048", max_time=0.3)
def test_enlarge(benchmark: Any, way: Callable[..., NDArray[np.float32]], patches: NDArray[np.float32]) -> None:
    """Nearest neighbour inside the crop, NaN outside."""
    pytest.importorskip("health_multimodal")
    assert np.array_equal(way(patches), _reference(patches), equal_nan=True)
    benchmark(way, patches)


def _numpy(vectors: NDArray[np.float32], queries: NDArray[np.float32], top_k: int) -> tuple[Any, Any]:
    scores = queries @ vectors.T
    chosen = np.argpartition(-scores, top_k, axis=1)[:, :top_k]
    found = np.take_along_axis(scores, chosen, axis=1)
    order = np.argsort(-found, axis=1)
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(chosen, order, axis=1)


def _faiss(vectors: NDArray[np.float32], queries: NDArray[np.float32], top_k: int) -> tuple[Any, Any]:
    from runtime.retrieval.nearest import search_exact

    return search_exact(vectors, queries, top_k)


@pytest.mark.parametrize("way", [_faiss, _numpy], ids=["runtime", "numpy"])
@pytest.mark.benchmark(group="ten nearest of 20,000 for 16 queries", max_time=0.3)
def test_nearest(benchmark: Any, way: Callable[..., tuple[Any, Any]]) -> None:
    """Every score is computed."""
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(count, 128)).astype(np.float32) for count in (20_000, 16))
    for each in (vectors, queries):
        each /= np.linalg.norm(each, axis=1, keepdims=True)
    scores, rows = way(vectors, queries, 10)
    expected, expected_rows = _numpy(vectors, queries, 10)
    assert np.array_equal(rows, expected_rows)
    assert np.abs(scores - expected).max() < 1e-6
    benchmark(way, vectors, queries, 10)
