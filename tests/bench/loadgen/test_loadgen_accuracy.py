"""What is asked of embeddings, by precision."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.loadgen.accuracy import judge
from tests.vectors import unit

EXACT = unit(np.random.default_rng(0).standard_normal((40, 128)))


def turned(cosines: NDArray[np.float64]) -> NDArray[np.float32]:
    """EXACT with rows that have these cosines with it."""
    away = np.random.default_rng(1).standard_normal(EXACT.shape)
    away -= (away * EXACT).sum(axis=1, keepdims=True) * EXACT
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    wanted = cosines[:, None]
    return (wanted * EXACT + np.sqrt(1 - wanted**2) * away).astype(np.float32)


def one(cosine: float) -> NDArray[np.float32]:
    return turned(np.where(np.arange(len(EXACT)) == 5, cosine, 1.0))


@pytest.mark.parametrize(
    ("precision", "found", "passed"),
    [
        ("fp32", EXACT + np.float32(5e-6), True),
        ("fp32", EXACT + np.float32(2e-5), False),
        ("fp16", one(0.9996), True),
        ("fp16", one(0.9994), False),
        ("bf16", one(0.9996), True),
        ("bf16", one(0.9994), False),
        ("int8", one(0.8), True),
        ("int8", one(0.5), False),
        ("int8-dynamic", one(0.5), False),
    ],
)
def test_trained_weights_are_judged(precision: str, found: NDArray[np.float32], passed: bool) -> None:
    assert judge("texts", found, EXACT, precision, random_weights=False).passed is passed


def test_random_weights_are_not_judged_where_they_say_nothing() -> None:
    for precision in ("int8", "bf16"):
        verdict = judge("texts", one(0.5), EXACT, precision, random_weights=True)
        assert verdict.passed is None
        assert verdict.gate.endswith("not asked of random weights")
        assert verdict.fidelity is not None
        assert verdict.fidelity.min_cosine == pytest.approx(0.5)
        assert verdict.fidelity.mean_cosine == pytest.approx(1 - 0.5 / len(EXACT))
    assert judge("texts", EXACT + np.float32(2e-5), EXACT, "fp32", random_weights=True).passed is False


def test_no_weights_excuse_what_is_no_embedding() -> None:
    broken = EXACT.copy()
    broken[3, 4] = np.nan
    verdict = judge("texts", broken, EXACT, "int8", random_weights=True)
    assert verdict.passed is False
    assert verdict.gate == "mean cosine ≥ 0.99; its answer holds numbers that are not finite"
    assert verdict.fidelity is None
    assert judge("texts", EXACT[:, :64], EXACT, "int8", random_weights=True).passed is False
    zeros = judge("texts", np.zeros_like(EXACT), EXACT, "int8", random_weights=False)
    assert zeros.passed is False
    assert zeros.fidelity is not None
    assert zeros.fidelity.mean_cosine == 0
