"""Compare what was exported with PyTorch, and decide whether it may leave the house."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from export.errors import GateError
from runtime.bundle import ParityRecord

__all__ = [
    "GATES",
    "MASKS_GATES",
    "PACKED_GATES",
    "Progress",
    "check_gates",
    "exceeded",
    "max_abs",
    "min_cosine",
    "parity_record",
    "worst",
]

# precision → figure → largest value allowed; of figures named min_… the smallest. Of precisions that are not here
# fidelity on held-out data decides.
GATES: Mapping[str, Mapping[str, float]] = {
    "fp32": {
        "max_abs": 1e-5,
        "max_abs_unnormalized": 1e-5,
        "max_abs_patch": 1e-5,
        "max_abs_padding": 1e-5,
        "triplets_changed": 0,
    },
    "fp16": {"min_cosine": 0.9995, "min_cosine_patch": 0.9995, "triplets_changed": 0},
}
# Of graphs compared with their twins, by whether the precision rounds: texts in company with texts alone, and words.
PACKED_GATES: Mapping[bool, Mapping[str, float]] = {False: {"max_abs": 1e-5}, True: {"min_cosine": 0.999}}
# What rounding does to the words themselves depends on the weights and is reported only.
MASKS_GATES: Mapping[bool, Mapping[str, float]] = {
    False: {"max_abs_score": 1e-5, "order_changed": 0, "min_cosine_alone": 0.999},
    True: {"min_cosine_alone": 0.999},
}

Progress = Callable[[float], None]


def check_gates(artifact: str, records: Iterable[ParityRecord]) -> None:
    """Raise GateError if any figure exceeds its gate; all misses are listed."""
    missed: list[str] = []
    required: Mapping[str, float] = {}
    figures: Mapping[str, float] = {}
    for record in records:
        where = "" if record.provider == "none" else f" on {record.provider}"
        if lines := exceeded(record):
            missed += [f"{artifact}{where}: {line}" for line in lines]
            required, figures = record.gates, record.figures
    if missed:
        raise GateError("The export differs from PyTorch", missed, required=required, best=figures)


def exceeded(record: ParityRecord) -> list[str]:
    """Lines for the figures that miss their gates."""
    missed = []
    for name, bound in record.gates.items():
        value, least = record.figures[name], name.startswith("min_")
        if not (value >= bound if least else value <= bound):  # NaN misses too
            missed.append(
                f"{name} is {value:.6g}, at {'least' if least else 'most'} {bound:g} is allowed "
                f"({record.cases}, against {record.reference})"
            )
    return missed


def parity_record(
    provider: str, reference: str, cases: str, figures: dict[str, float], gates: Mapping[str, float]
) -> ParityRecord:
    """A record with the gates that it has figures for."""
    return ParityRecord(
        provider, reference, cases, figures, {name: float(bound) for name, bound in gates.items() if name in figures}
    )


def worst(figures: Mapping[str, list[float]]) -> dict[str, float]:
    """Largest of what should be small, smallest of what should be large; numpy's, which do not lose NaN."""
    return {name: float(np.max(each) if name.startswith("max") else np.min(each)) for name, each in figures.items()}


def max_abs(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest absolute difference; NaN where there is one."""
    return float(np.abs(found - expected).max())


def min_cosine(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Smallest cosine of two rows, float32 (…, D) each."""
    products = np.sum(found.astype(np.float64) * expected, axis=-1)
    norms = np.linalg.norm(found.astype(np.float64), axis=-1) * np.linalg.norm(expected.astype(np.float64), axis=-1)
    return float((products / norms).min())
