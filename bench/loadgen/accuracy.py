"""Whether the answers are right: each against the bundle's fp32 graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bench.record import Fidelity

__all__ = ["GATES", "Gate", "Verdict", "judge"]

_INT8 = "int8"


@dataclass(frozen=True)
class Gate:
    """What is asked of a precision.

    Attributes:
        text: for people.
        figure: of `Fidelity`.
        bound: largest value allowed of "max_abs", smallest of the others.
        of_random: whether random weights can be judged by it. Without outliers, and with embeddings that are all
            alike, they say nothing of low precision.
    """

    text: str
    figure: str
    bound: float
    of_random: bool

    def holds(self, fidelity: Fidelity) -> bool:
        """Whether it is kept."""
        value = float(getattr(fidelity, self.figure))
        return value <= self.bound if self.figure == "max_abs" else value >= self.bound


GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "fp32": Gate("max abs ≤ 1e-5", "max_abs", 1e-5, True),
        "fp16": Gate("min cosine ≥ 0.9995", "min_cosine", 0.9995, True),
        "bf16": Gate("min cosine ≥ 0.9995", "min_cosine", 0.9995, False),
        _INT8: Gate("mean cosine ≥ 0.99", "mean_cosine", 0.99, False),
    }
)


@dataclass(frozen=True)
class Verdict:
    """Figures, what was asked, and whether it is kept; None where it cannot be said."""

    fidelity: Fidelity | None
    gate: str
    passed: bool | None


def judge(
    found: NDArray[np.float32], expected: NDArray[np.float32], precision: str, *, random_weights: bool
) -> Verdict:
    """Compare embeddings, row by row.

    Args:
        found: float32 (N, D), as answered.
        expected: float32 (N, D), of the fp32 graph.
        precision: that `found` is judged as; what is no key of `GATES` ("int8-dynamic") as int8.
        random_weights: the bundle has any.
    """
    gate = GATES.get(precision, GATES[_INT8])
    if found.shape != expected.shape:
        return Verdict(None, f"{gate.text}; answers have shape {found.shape}, expected {expected.shape}", False)
    if not np.isfinite(found).all():
        return Verdict(None, f"{gate.text}; answers are not finite", False)
    wide, exact = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1) * np.linalg.norm(exact, axis=1)
    # An embedding of zeros has no direction: as wrong as one at a right angle.
    cosines = np.divide((wide * exact).sum(axis=1), norms, out=np.zeros_like(norms), where=norms > 0)
    fidelity = Fidelity(float(cosines.mean()), float(cosines.min()), float(np.abs(wide - exact).max()))
    if random_weights and not gate.of_random:
        return Verdict(fidelity, f"{gate.text}: not asked of random weights", None)
    return Verdict(fidelity, gate.text, gate.holds(fidelity))
