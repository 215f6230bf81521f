"""Image and text together: similarity scores and similarity maps.

Source: hi-ml-multimodal, `vlp/inference_engine.py` (`ImageTextInferenceEngine`).
"""

from __future__ import annotations

from math import floor

import numpy as np
from numpy.typing import NDArray

__all__ = ["average_prompts", "gaussian_smooth", "map_to_image", "patch_similarity"]

_SIGMA = 1.5
_TRUNCATE = 4.0
_EPSILON = np.float32(1e-12)


def average_prompts(projections: NDArray[np.float32]) -> NDArray[np.float32]:
    """Merge several prompts into one embedding: the mean of their unnormalized embeddings, then normalized.

    Args:
        projections: float32 (prompts, D), not normalized.

    Returns:
        float32 (D,), unit L2 norm.
    """
    mean = projections.mean(axis=0, dtype=np.float32)
    return np.asarray(mean / np.maximum(np.linalg.norm(mean), _EPSILON), dtype=np.float32)


def patch_similarity(patch_embeds: NDArray[np.float32], text_embed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of every patch with a text, smoothed with a Gaussian of σ = 1.5 patches.

    Args:
        patch_embeds: float32 (rows, columns, D), unit norm.
        text_embed: float32 (D,), unit norm.

    Returns:
        float32 (rows, columns).
    """
    return gaussian_smooth(patch_embeds @ text_embed, _SIGMA)


def gaussian_smooth(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian filter with reflected borders, equal to `scipy.ndimage.gaussian_filter(values, sigma)`.

    A patch grid is so small that the filter is two products with a matrix; SciPy would double the install.

    Args:
        values: (rows, columns).
        sigma: standard deviation in cells.

    Returns:
        float32 (rows, columns).
    """
    rows, columns = values.shape
    smoothed = _smoothing_matrix(rows, sigma) @ values.astype(np.float64) @ _smoothing_matrix(columns, sigma).T
    return np.asarray(smoothed, dtype=np.float32)


def _smoothing_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    # Positions beyond the border fold back: (d c b a | a b c d | d c b a).
    folded = (np.arange(size)[:, None] + offsets) % (2 * size)
    folded = np.where(folded < size, folded, 2 * size - 1 - folded)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], folded), weights)
    return matrix


def map_to_image(similarity: NDArray[np.float32], size: tuple[int, int], resize: int, crop: int) -> NDArray[np.float32]:
    """Enlarge a patch map to the original image: nearest neighbour inside the crop, NaN outside.

    Args:
        similarity: float32 (rows, columns).
        size: width and height of the original image in pixels.
        resize: length of the shorter side after resizing.
        crop: side of the crop.

    Returns:
        float32 (height, width).
    """
    width, height = size
    side = int(crop * min(width, height) / resize)
    full = np.full((height, width), np.nan, dtype=np.float32)
    # Odd margins: the smaller half goes left and on top.
    left, top = floor((width - side) / 2), floor((height - side) / 2)
    rows, columns = (_nearest(side, count) for count in similarity.shape)
    full[top : top + side, left : left + side] = similarity[np.ix_(rows, columns)]
    return full


def _nearest(target: int, source: int) -> NDArray[np.intp]:
    """Source index of each target position, with the float32 arithmetic of torch's `interpolate(mode="nearest")`."""
    if target == 0:
        return np.empty(0, dtype=np.intp)
    scale = np.float32(source) / np.float32(target)
    positions = np.floor(np.arange(target, dtype=np.float32) * scale).astype(np.intp)
    return np.asarray(np.minimum(positions, source - 1))
