"""What is right and what is wrong in each precision."""

from __future__ import annotations

import numpy as np
import pytest

from bench.peers.contract import TOP
from bench.record.gates import GATES, describe_gate, judge


def unit(rows: int = 40, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((rows, 128))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def turned(cosine: float) -> np.ndarray:
    """Rows with exactly this cosine with those of `unit`."""
    rows = unit()
    other = unit(seed=1)
    other -= (other * rows).sum(axis=1, keepdims=True) * rows
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    return cosine * rows + np.sqrt(1 - cosine**2) * other


@pytest.mark.parametrize(
    ("precision", "right", "wrong"),
    [
        ("bf16", 0.99955, 0.99945),
        ("fp16", 0.99955, 0.99945),
        ("int8", 0.991, 0.989),
        ("int8-dynamic", 0.991, 0.989),
        ("int4", 0.991, 0.989),
    ],
)
def test_cosines_decide(precision: str, right: float, wrong: float) -> None:
    assert judge("texts", turned(right), unit(), precision).wrong == ""
    judgement = judge("texts", turned(wrong), unit(), precision)
    assert f"is allowed in {precision}" in judgement.wrong
    assert judgement.fidelity is not None
    assert judgement.fidelity.min_cosine == pytest.approx(wrong)
    assert judgement.fidelity.mean_cosine == pytest.approx(wrong)


def test_fp32_is_judged_by_every_number() -> None:
    shifted = unit()
    shifted[7, 5] += 9e-6
    assert judge("images", shifted, unit(), "fp32").wrong == ""
    shifted[7, 5] += 2e-6
    assert "differs from the reference's by 1.1e-05" in judge("images", shifted, unit(), "fp32").wrong


def test_one_wrong_embedding_among_many_is_seen_in_bf16_and_not_lost_in_the_mean_of_int8() -> None:
    """int8's gate is a mean: a single foreign row of forty moves it by a fortieth."""
    swapped = unit()
    swapped[3] = unit(seed=2)[3]
    assert judge("texts", swapped, unit(), "bf16").wrong
    assert judge("texts", swapped, unit(), "int8").wrong


@pytest.mark.parametrize("system", ["texts", "images", "masks", "joint"])
def test_other_shapes_and_numbers_that_are_none_are_wrong(system: str) -> None:
    expected = np.ones((2, 2 * TOP))
    assert "shape (1, 10), expected (2, 10)" in judge(system, expected[:1], expected, "int8").wrong
    broken = expected.copy()
    broken[1, 3] = np.nan
    assert "not finite" in judge(system, broken, expected, "int8").wrong


def test_words_must_be_the_same_in_the_same_order() -> None:
    expected = np.array([[5.0, 4, 3, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.01]])
    assert judge("masks", expected, expected, "int8").wrong == ""
    near = expected + np.array([0.0] * 5 + [2e-5] + [0.0] * 4)
    assert "a score differs by 2e-05" in judge("masks", near, expected, "fp32").wrong
    turned_round = expected[:, [1, 0, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert "another order" in judge("masks", turned_round, expected, "fp32").wrong


def test_probabilities_may_differ_by_what_embeddings_may() -> None:
    expected = np.full((1, 14), 0.5)
    for precision, bound in (("fp32", 1e-5), ("bf16", np.sqrt(0.001) / 4), ("int8", np.sqrt(0.02) / 4)):
        assert judge("joint", expected + 0.99 * bound, expected, precision).wrong == ""
        assert "a probability differs" in judge("joint", expected + 1.01 * bound, expected, precision).wrong


def test_gates_are_the_exports() -> None:
    from export.proof.fidelity import HALF_GATES

    # Of int8 the export judges what cannot be seen of a few answers: neighbours, and cosines without the mean.
    assert GATES["int8"].mean_cosine == 0.99
    assert GATES["fp16"].min_cosine == GATES["bf16"].min_cosine == HALF_GATES["min_cosine"]
    assert describe_gate("int8") == "mean cosine ≥ 0.99"
    assert describe_gate("fp32") == "largest difference ≤ 1e-05"
    assert describe_gate("bf16") == "every cosine ≥ 0.9995"


def test_what_the_exports_tiers_ask_is_told_beside_the_cosines() -> None:
    """The independent figures: by hand, with the mean taken off and the neighbours looked for one by one."""
    expected, found = unit() + 3.0, turned(0.98) + 3.0  # all alike, so that cosines say little
    fidelity = judge("texts", found, expected, "int8").fidelity
    assert fidelity is not None
    centre = expected.mean(axis=0)
    pairs = zip(found - centre, expected - centre, strict=True)
    centred = np.mean([one @ other / np.linalg.norm(one) / np.linalg.norm(other) for one, other in pairs])
    assert fidelity.mean_centred_cosine == pytest.approx(centred, abs=1e-5)
    assert fidelity.mean_cosine > 0.999 > fidelity.mean_centred_cosine
    near = [each @ each.T for each in (found, expected)]
    lost = []
    for row in range(len(found)):
        others = [at for at in range(len(found)) if at != row]
        best, got = (max(others, key=lambda at, each=each: each[row, at]) for each in (near[1], near[0]))
        lost.append(near[1][row, best] - near[1][row, got])
    spread = near[1][np.triu_indices(len(found), 1)].std()
    assert fidelity.neighbour_regret == pytest.approx(np.mean(lost) / spread, abs=1e-3)
    few = judge("texts", found[:8], expected[:8], "int8").fidelity
    assert few is not None
    assert (few.mean_centred_cosine, few.neighbour_regret) == (None, None)


def test_other_tools_int8_off_its_gate_is_told_and_not_called_wrong() -> None:
    """This engine's is wrong: what is held against it may be off, it may not."""
    off = judge("texts", turned(0.95), unit(), "int8", others_int8=True)
    assert off.wrong == ""
    assert "mean cosine with the reference is 0.95000, at least 0.99 is allowed in int8" in off.missed
    assert judge("texts", turned(0.95), unit(), "int8").wrong == off.missed
    assert judge("texts", turned(0.991), unit(), "int8", others_int8=True).missed == ""
    assert judge("texts", turned(0.89), unit(), "int8", others_int8=True).wrong, "another answer, by whomever"
    assert judge("texts", unit()[::-1], unit(), "int8", others_int8=True).wrong, "in another order"
    words = np.array([[5.0, 4, 3, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.01]])
    assert judge("masks", words[:, ::-1], words, "int8", others_int8=True).wrong, "words are words"
