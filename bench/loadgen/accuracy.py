"""Whether the answers are right: each against the bundle's fp32 graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.record import Fidelity, gates

__all__ = ["Verdict", "judge"]

# Random weights can be judged in these. They have no outliers, and their embeddings are all alike: of lower precision
# they say neither good nor bad.
_OF_RANDOM = ("fp32", "fp16")


@dataclass(frozen=True)
class Verdict:
    """Figures, what was asked, and whether it is kept; None where it cannot be said."""

    fidelity: Fidelity | None
    gate: str
    passed: bool | None


def judge(
    unit: str, found: NDArray[np.float32], expected: NDArray[np.float32], precision: str, *, random_weights: bool
) -> Verdict:
    """Compare embeddings, row by row, by the gates of `bench.record.gates`.

    Args:
        unit: "texts" or "images".
        found: float32 (N, D), as answered.
        expected: float32 (N, D), of the fp32 graph.
        precision: that `found` is judged as.
        random_weights: the bundle has any.
    """
    judgement = gates.judge(unit, found, expected, precision)
    gate = gates.describe_gate(precision)
    if judgement.fidelity is None:
        return Verdict(None, f"{gate}; {judgement.wrong}", False)
    if random_weights and precision not in _OF_RANDOM:
        return Verdict(judgement.fidelity, f"{gate}: not asked of random weights", None)
    return Verdict(judgement.fidelity, gate, not judgement.wrong)
