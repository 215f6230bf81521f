"""Whether an answer is right: what is wrong has no time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.record.report import Fidelity

__all__ = ["GATES", "Gate", "Judgement", "describe_gate", "judge"]

Array = NDArray[Any]
# Largest difference of a score or a probability in fp32, as in the export's gates.
_EXACT = 1e-5
# A mean cosine below which an answer is another one, and not the same coarsely rounded.
_ANOTHER = 0.9
# Embeddings, below which a neighbour among them says nothing.
_FEWEST = 32


@dataclass(frozen=True)
class Gate:
    """What embeddings in a precision must hold against the reference; None asks nothing.

    Attributes:
        max_abs: largest difference of a component of unit-norm embeddings.
        mean_cosine: smallest mean cosine.
        min_cosine: smallest cosine of any.
    """

    max_abs: float | None = None
    mean_cosine: float | None = None
    min_cosine: float | None = None


@dataclass(frozen=True)
class Judgement:
    """How near an answer is, and why it is wrong, or "".

    `missed` says how far an answer is off its gate that is not called wrong, see `judge`.
    """

    fidelity: Fidelity | None
    wrong: str
    missed: str = ""


# Those of the exports.
_INT8 = Gate(mean_cosine=0.99)
GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "fp32": Gate(max_abs=_EXACT),
        "fp16": Gate(min_cosine=0.9995),
        "bf16": Gate(min_cosine=0.9995),
        "int8": _INT8,
        "int8-dynamic": _INT8,
    }
)


def gate(precision: str) -> Gate:
    """What a precision must hold; one that is not known is judged as int8."""
    return GATES.get(precision, _INT8)


def describe_gate(precision: str) -> str:
    """In words."""
    asked = gate(precision)
    parts = (
        ("largest difference ≤ {:g}", asked.max_abs),
        ("mean cosine ≥ {:g}", asked.mean_cosine),
        ("every cosine ≥ {:g}", asked.min_cosine),
    )
    return ", ".join(text.format(bound) for text, bound in parts if bound is not None)


def judge(system: str, found: Array, expected: Array, precision: str, others_int8: bool = False) -> Judgement:
    """Compare an answer with the reference's.

    Args:
        system: "texts", "images", "masks" or "joint": what answers are, see `bench.peers.contract`.
        found: the answer.
        expected: the reference's answer.
        precision: what it was computed in.
        others_int8: it is an int8 that users get from other tools: embeddings off the gate are then `missed` and not
            wrong, unless the mean cosine is below 0.9. Left out, it would flatter this engine.
    """
    if found.shape != expected.shape:
        return Judgement(None, f"its answer has shape {found.shape}, expected {expected.shape}")
    if not np.isfinite(found).all():
        return Judgement(None, "its answer holds numbers that are not finite")
    judgement = _JUDGES[system](found.astype(np.float64), expected.astype(np.float64), precision)
    fidelity = judgement.fidelity
    if others_int8 and _JUDGES[system] is _embeddings and fidelity and fidelity.mean_cosine >= _ANOTHER:
        return Judgement(fidelity, "", judgement.wrong)
    return judgement


def _embeddings(found: Array, expected: Array, precision: str) -> Judgement:
    fidelity = replace(_fidelity(found, expected), **_tiers(found, expected))
    asked = gate(precision)
    if asked.max_abs is not None and fidelity.max_abs > asked.max_abs:
        wrong = f"an embedding differs from the reference's by {fidelity.max_abs:.3g}, at most {asked.max_abs:g}"
    elif asked.mean_cosine is not None and fidelity.mean_cosine < asked.mean_cosine:
        wrong = f"the mean cosine with the reference is {fidelity.mean_cosine:.5f}, at least {asked.mean_cosine:g}"
    elif asked.min_cosine is not None and fidelity.min_cosine < asked.min_cosine:
        wrong = f"an embedding has cosine {fidelity.min_cosine:.5f} with the reference's, at least {asked.min_cosine:g}"
    else:
        return Judgement(fidelity, "")
    return Judgement(fidelity, f"{wrong} is allowed in {precision}")


def _masks(found: Array, expected: Array, precision: str) -> Judgement:
    """The same words in the same order, scores within 1e-5: of fp32 the reference's, of others those of a partner."""
    half = found.shape[1] // 2
    fidelity = _fidelity(found[:, half:], expected[:, half:])
    if not np.array_equal(found[:, :half], expected[:, :half]):
        return Judgement(fidelity, "it has other words, or the same in another order, than it should")
    if fidelity.max_abs > _EXACT:
        return Judgement(fidelity, f"a score differs by {fidelity.max_abs:.3g}, at most {_EXACT:g} is allowed")
    return Judgement(fidelity, "")


def _probabilities(found: Array, expected: Array, precision: str) -> Judgement:
    """Embeddings with a cosine of c are √(2 − 2c) apart, and no cosine with a third changes by more; a probability is
    the logistic function, of slope 1/4, of the difference of two.
    """
    fidelity = _fidelity(found, expected)
    asked = gate(precision)
    cosine = asked.min_cosine if asked.min_cosine is not None else asked.mean_cosine
    bound = _EXACT if cosine is None else float(np.sqrt(2 - 2 * cosine)) / 4
    if fidelity.max_abs > bound:
        return Judgement(fidelity, f"a probability differs by {fidelity.max_abs:.3g}, at most {bound:.3g} is allowed")
    return Judgement(fidelity, "")


def _fidelity(found: Array, expected: Array) -> Fidelity:
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.where(norms > 0, (found * expected).sum(axis=1) / norms, 0.0)
    return Fidelity(float(cosines.mean()), float(cosines.min()), float(np.abs(found - expected).max()))


def _tiers(found: Array, expected: Array) -> dict[str, float]:
    """Those that the export's tiers ask about."""
    if len(found) < _FEWEST:
        return {}
    from export.proof.fidelity import text_figures

    figures = text_figures(found.astype(np.float32), expected.astype(np.float32))
    return {name: figures[name] for name in ("mean_centred_cosine", "neighbour_regret") if np.isfinite(figures[name])}


_JUDGES: Mapping[str, Callable[[Array, Array, str], Judgement]] = {
    "texts": _embeddings,
    "images": _embeddings,
    "masks": _masks,
    "joint": _probabilities,
}
