"""The fidelity figures against independent implementations, and gates that cannot be fooled."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from export.proof import missed_gates
from export.proof.fidelity import TIERS, image_figures, text_figures, tie_tolerance
from export.proof.pair_figures import pair_figures
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


def test_centred_cosines_see_what_narrow_spaces_hide():
    """All embeddings nearly alike, and half of what tells them apart lost: the cosines hardly move."""
    generator = np.random.default_rng(0)
    common, own = _unit(generator, 16), 0.02 * _unit(generator, 60, 16)
    expected = common + own
    found = expected + 0.7 * 0.02 * _unit(generator, 60, 16)
    expected, found = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (expected, found))
    figures = text_figures(found, expected)
    assert figures["mean_cosine"] > 0.9998
    assert figures["mean_centred_cosine"] < 0.9
    centre = expected.astype(float).mean(axis=0)
    plain = [
        (a - centre) @ (b - centre) / np.linalg.norm(a - centre) / np.linalg.norm(b - centre)
        for a, b in zip(found.astype(float), expected.astype(float), strict=True)
    ]
    assert figures["mean_centred_cosine"] == pytest.approx(np.mean(plain), abs=1e-9)
    assert figures["p1_centred_cosine"] == pytest.approx(np.percentile(plain, 1), abs=1e-9)
    assert missed_gates(figures, TIERS["99"])[0].startswith("mean_centred_cosine is 0.8")


def test_regret_is_what_the_neighbour_found_lacks(pair):
    found, expected = pair
    similarities = expected.astype(float) @ expected.T.astype(float)
    spread = np.std([similarities[i, j] for i in range(40) for j in range(i)])
    regrets, kept, ten = [], [], []
    for i in range(40):
        others = [j for j in range(40) if j != i]
        by_found = sorted(others, key=lambda j: -float(found[i] @ found[j]))
        by_right = sorted(others, key=lambda j: -float(similarities[i, j]))
        lost = similarities[i, by_right[0]] - similarities[i, by_found[0]]
        regrets.append(lost / spread if lost > 0.05 else 0.0)
        kept.append(lost <= 0.05)
        ten.append(len({*by_found[:10]} & {*by_right[:10]}) / 10)
    figures = text_figures(found, expected, tolerance=0.05)
    assert figures["neighbour_regret"] == pytest.approx(np.mean(regrets), abs=1e-6)
    assert figures["p99_neighbour_regret"] == pytest.approx(np.percentile(regrets, 99), abs=1e-6)
    assert figures["neighbours_kept"] == np.mean(kept)
    assert figures["neighbour_recall_at_10"] == pytest.approx(np.mean(ten))
    assert figures["neighbour_agreement"] < figures["neighbours_kept"] < 1
    assert text_figures(found, expected)["neighbour_regret"] > figures["neighbour_regret"] > 0


def test_a_neighbour_that_repeats_another_is_no_loss():
    """Two pairs of near-repeats change places: no neighbour is the same, and nothing is lost."""
    generator = np.random.default_rng(1)
    base = _unit(generator, 10, 24)
    expected = np.concatenate([base + 1e-4 * _unit(generator, 10, 24) for _ in range(3)])
    found = np.concatenate([base + 1e-4 * _unit(generator, 10, 24) for _ in range(3)])
    expected, found = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (expected, found))
    tolerance = tie_tolerance(expected + 1e-4 * _unit(generator, 30, 24), expected)
    figures = text_figures(found, expected, tolerance=tolerance)
    assert figures["neighbour_agreement"] < 0.8
    assert figures["neighbour_regret"] < 1e-4
    assert figures["neighbours_kept"] == 1
    assert not missed_gates(figures, TIERS["99.9"])


def test_the_change_of_retrieval_is_that_of_a_plain_loop(pair):
    found, expected = pair
    queries, texts = slice(0, 20), slice(20, 40)

    def plain(embeds: np.ndarray) -> tuple[float, float]:
        ranks = []
        for i in range(20):
            similarities = embeds[queries][i].astype(float) @ embeds[texts].T.astype(float)
            ranks.append(1 + int((similarities > similarities[i]).sum()))
        return float(np.mean([1 / rank for rank in ranks])), float(np.mean([rank <= 10 for rank in ranks]))

    figures = pair_figures((found[queries], found[texts]), (expected[queries], expected[texts]))
    (mrr, recall), (changed, recall_changed) = plain(expected), plain(found)
    assert figures["pairs_mrr"] == pytest.approx(mrr)
    assert figures["pairs_mrr_change"] == pytest.approx(changed / mrr - 1)
    assert figures["pairs_recall_at_10_change"] == pytest.approx(recall_changed / recall - 1)
    assert changed != mrr


def test_impressions_that_are_the_same_are_one(pair):
    _, expected = pair
    texts = np.concatenate([expected[:1]] * 10 + [expected[1:11]])
    figures = pair_figures((texts, texts), (texts, texts))
    assert figures["pairs_mrr"] == 1


def test_the_missed_gate_of_a_regret_is_an_upper_bound():
    assert missed_gates({"neighbour_regret": 0.01}, {"neighbour_regret": 0.006}) == [
        "neighbour_regret is 0.01000, at most 0.006 is required"
    ]
    assert missed_gates({"neighbour_regret": float("nan")}, {"neighbour_regret": 0.006})
    assert not missed_gates({"neighbour_regret": 0.006}, {"neighbour_regret": 0.006})


def test_a_triplet_that_is_a_tie_does_not_count():
    axis = np.eye(4, dtype=np.float32)
    near = axis[0] + 0.01 * axis[1]
    tie, turned = [axis[0], near, axis[0] * 0.999], [axis[0], axis[0] * 0.99, near]
    right = [axis[0], axis[0], axis[1]]
    rest = right * (len(TRIPLETS) - 1)
    expected, found = np.stack(tie + rest), np.stack(turned + rest)
    embeds = np.eye(4, dtype=np.float32)
    assert text_figures(embeds, embeds, (found, expected))["triplets_kept"] == 1 - 1 / len(TRIPLETS)
    assert text_figures(embeds, embeds, (found, expected), tolerance=0.005)["triplets_kept"] == 1
