"""The fidelity figures against independent implementations, and gates that cannot be fooled."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from export.proof import missed_gates
from export.proof.fidelity import image_figures, text_figures
from export.samples import TRIPLETS


def _unit(generator: np.random.Generator, *shape: int) -> np.ndarray:
    values = generator.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    expected = _unit(generator, 40, 16)
    found = expected + 0.2 * _unit(generator, 40, 16)
    return found / np.linalg.norm(found, axis=-1, keepdims=True), expected


def test_figures_agree_with_scipy_and_a_plain_loop(pair):
    found, expected = pair
    figures = text_figures(found, expected)
    cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(found, expected, strict=True)]
    pairs = [(i, j) for i in range(40) for j in range(i)]
    left = [float(found[i] @ found[j]) for i, j in pairs]
    right = [float(expected[i] @ expected[j]) for i, j in pairs]
    same = 0
    for i in range(40):
        others = [j for j in range(40) if j != i]
        same += max(others, key=lambda j: found[i] @ found[j]) == max(others, key=lambda j: expected[i] @ expected[j])
    assert figures["mean_cosine"] == pytest.approx(np.mean(cosines), abs=1e-6)
    assert figures["min_cosine"] == pytest.approx(min(cosines), abs=1e-6)
    assert figures["spearman"] == pytest.approx(spearmanr(left, right).statistic, abs=1e-6)
    assert figures["max_similarity_change"] == pytest.approx(np.abs(np.subtract(left, right)).max(), abs=1e-6)
    assert figures["neighbour_agreement"] == same / 40
    assert 0 < same < 40


def test_equal_embeddings_are_perfect(pair):
    figures = text_figures(pair[1], pair[1])
    assert figures["max_similarity_change"] == 0
    for name in ("mean_cosine", "min_cosine", "spearman", "neighbour_agreement"):
        assert figures[name] == pytest.approx(1, abs=1e-6)


def test_a_triplet_that_the_reference_has_wrong_does_not_count():
    axis = np.eye(4, dtype=np.float32)
    right, wrong = [axis[0], axis[0], axis[1]], [axis[0], axis[1], axis[0]]
    count = len(TRIPLETS)
    expected = np.stack(right * (count - 1) + wrong)
    embeds = np.eye(4, dtype=np.float32)
    assert text_figures(embeds, embeds, (expected, expected))["triplets_kept"] == 1
    lost = np.stack(wrong + right * (count - 2) + right)
    assert text_figures(embeds, embeds, (lost, expected))["triplets_kept"] == pytest.approx((count - 2) / (count - 1))


def test_maps_of_images_are_correlated_with_queries():
    generator = np.random.default_rng(5)
    images, patches = _unit(generator, 6, 8), _unit(generator, 6, 3, 3, 8)
    same = image_figures((images, patches), (images, patches))
    assert same["map_correlation"] == pytest.approx(1, abs=1e-5)
    assert same["mean_patch_cosine"] == pytest.approx(1, abs=1e-6)
    swapped = image_figures((images, patches[:, ::-1]), (images, patches), _unit(generator, 4, 8))
    assert swapped["map_correlation"] < 0.7
    assert swapped["mean_cosine"] == pytest.approx(1, abs=1e-6)
    queries = _unit(generator, 2, 8)
    found = image_figures((images, patches[:, ::-1]), (images, patches), queries)["map_correlation"]
    each = [
        np.corrcoef((patches[i, ::-1] @ q).ravel(), (patches[i] @ q).ravel())[0, 1] for i in range(6) for q in queries
    ]
    assert found == pytest.approx(np.mean(each), abs=1e-5)


def test_nan_misses_every_gate():
    assert missed_gates({"mean_cosine": float("nan")}, {"mean_cosine": 0.5})
    assert missed_gates({"mean_cosine": 0.98}, {"mean_cosine": 0.99}) == [
        "mean_cosine is 0.98000, at least 0.99 is required"
    ]
    assert not missed_gates({"mean_cosine": 0.99}, {"mean_cosine": 0.99})
