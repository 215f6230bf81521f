"""Which artifact of a bundle runs on an engine, and in what it is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runtime.bundle import Artifact, Bundle, FidelityRecord
from runtime.engines import Provider
from runtime.errors import BundleError, ProviderError
from runtime.process.checks import number

__all__ = [
    "MEAN_COSINE",
    "MIN_FIDELITY",
    "Choice",
    "check_min_fidelity",
    "choose_precision",
    "format_cosine",
    "is_faithful",
    "mean_cosine",
]

MIN_FIDELITY = 0.99
# The figure of a FidelityRecord that `min_fidelity` is about.
MEAN_COSINE = "mean_cosine"
_NOUNS = {"text": "texts", "image": "images"}
_DIGITS = (4, 7)


def check_min_fidelity(value: Any) -> float:
    """A mean cosine from 0 to 1.

    Raises:
        InputError: something else.
    """
    return number("min_fidelity", value, "a mean cosine from 0 to 1", lambda cosine: 0 <= cosine <= 1)


@dataclass(frozen=True)
class Choice:
    """An artifact and what it is computed in.

    Attributes:
        part: "text" or "image".
        artifact: the graph.
        precision: what it is computed in: the artifact's precision, or "bf16" for an fp32 artifact.
        fidelity: what was measured of it on that engine in that precision; None where nothing was.
        reason: why it was chosen, in words.
    """

    part: str
    artifact: Artifact
    precision: str
    fidelity: FidelityRecord | None
    reason: str

    def __str__(self) -> str:
        if self.fidelity is None:
            return f"{self.part} {self.precision}"
        figure = format_cosine(mean_cosine(self.fidelity))
        held_out = f"{self.fidelity.items} held-out {_NOUNS[self.part]}"
        return f"{self.part} {self.precision} (mean cosine {figure} on {held_out})"


def choose_precision(
    bundle: Bundle, part: str, provider: Provider, precision: str = "auto", min_fidelity: float = MIN_FIDELITY
) -> Choice:
    """Choose what a part is computed with on an engine.

    "auto" takes the fastest of all that were measured on that engine with a mean cosine of at least `min_fidelity`.
    fp32 always qualifies and is taken where nothing else does; a bundle without it gives the first artifact for the
    engine. Precisions that the engine refuses on this machine are passed over.

    A named precision is taken whatever its fidelity: the artifact of that precision, or, where the engine can, an fp32
    artifact computed in it.

    Args:
        bundle: the opened bundle.
        part: "text" or "image".
        provider: the engine.
        precision: a precision, or "auto".
        min_fidelity: smallest mean cosine that "auto" accepts, in [0, 1].

    Raises:
        BundleError: no such part, or no such artifact for that engine; the message lists those there are.
        ProviderError: the engine refuses that precision on this machine; the message says why.
    """
    if precision != "auto":
        return _named(bundle, part, provider, precision)
    measured = [
        Choice(part, artifact, computed, record, "")
        for artifact, computed, record in _measured(bundle, part, provider)
        if computed == "fp32" or mean_cosine(record) >= min_fidelity
    ]
    if not measured:
        return _unmeasured(bundle, part, provider, min_fidelity)
    best = min(measured, key=lambda choice: _milliseconds(choice.fidelity))
    milliseconds = _milliseconds(best.fidelity)
    reason = (
        f"{milliseconds:.1f} ms a batch, the fastest of {len(measured)} measured there "
        f"that are fp32 or have a mean cosine of at least {min_fidelity:g}"
    )
    return Choice(part, best.artifact, best.precision, best.fidelity, reason)


def is_faithful(choice: Choice, min_fidelity: float) -> bool:
    """Whether "auto" may take it: fp32 always, another if it was measured to have such a mean cosine."""
    return choice.precision == "fp32" or (choice.fidelity is not None and mean_cosine(choice.fidelity) >= min_fidelity)


def format_cosine(value: float) -> str:
    """A cosine with 4 to 7 decimals: as many as tell it from 1. Cut, not rounded, so as not to seem above a bound."""
    if not math.isfinite(value):
        return str(value)
    fewest, most = _DIGITS
    if value > 1 - 10**-most:
        return f"{1:.{fewest}f}"
    digits = max(fewest, math.ceil(-math.log10(1 - value) - 1e-6))
    return f"{math.floor(value * 10**digits + 1e-6) / 10**digits:.{digits}f}"


def _named(bundle: Bundle, part: str, provider: Provider, precision: str) -> Choice:
    refused = provider.refuses(precision)
    if refused:
        raise ProviderError(refused)
    there = {artifact.precision for artifact in bundle.artifacts(part, provider.name)}
    source = "fp32" if precision in provider.from_fp32 and precision not in there else precision
    artifact = bundle.artifact(part, source, provider=provider.name)
    return Choice(part, artifact, precision, _record(artifact, provider, precision), "asked for")


def _unmeasured(bundle: Bundle, part: str, provider: Provider, min_fidelity: float) -> Choice:
    there = bundle.artifacts(part, provider.name)
    usable = [artifact for artifact in there if provider.refuses(artifact.precision) is None]
    if not usable:
        listed = [f"{artifact.precision} ({', '.join(artifact.providers)})" for artifact in bundle.artifacts(part)]
        raise BundleError(
            f"{bundle.root} has no {part} artifact that '{provider.name}' can run here; it has: "
            f"{', '.join(listed) or 'none'}."
            + "".join(f" {provider.refuses(artifact.precision)}" for artifact in there)
        )
    artifact = next((artifact for artifact in usable if artifact.precision == "fp32"), usable[0])
    record = _record(artifact, provider, artifact.precision)
    reason = f"nothing measured on {provider.name} has a mean cosine of at least {min_fidelity:g}"
    return Choice(part, artifact, artifact.precision, record, reason)


def _measured(bundle: Bundle, part: str, provider: Provider) -> Iterator[tuple[Artifact, str, FidelityRecord]]:
    """Everything that was measured on the engine and that it computes here."""
    for artifact in bundle.artifacts(part, provider.name):
        for precision in dict.fromkeys(record.precision for record in artifact.fidelity):
            same = artifact.precision == precision
            if not same and not (artifact.precision == "fp32" and precision in provider.from_fp32):
                continue
            record = _record(artifact, provider, precision)
            if record is not None and provider.refuses(precision) is None:
                yield artifact, precision, record


def _record(artifact: Artifact, provider: Provider, precision: str) -> FidelityRecord | None:
    """The latest record, or rather the latest of this very processor."""
    records = [
        record for record in artifact.fidelity if (record.provider, record.precision) == (provider.name, precision)
    ]
    here = [record for record in records if record.processor == provider.processor()]
    latest = here or records
    return latest[-1] if latest else None


def mean_cosine(record: FidelityRecord) -> float:
    """The figure that `min_fidelity` is about; NaN where it was not measured."""
    return record.figures.get(MEAN_COSINE, math.nan)


def _milliseconds(record: FidelityRecord | None) -> float:
    return math.inf if record is None or math.isnan(record.milliseconds) else record.milliseconds
