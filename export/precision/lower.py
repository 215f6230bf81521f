"""Lower precisions of one part: gate them, search for the int8 recipe that holds its tier."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from export.errors import GateError
from export.graphs import GraphInfo
from export.progress import Steps
from export.proof import Judge, missed_gates
from export.proof.fidelity import TIERS
from runtime.bundle import Artifact, FidelityRecord, ParityRecord
from runtime.bundle.artifacts import Recipe, Trial

__all__ = ["Candidate", "Form", "Lowering", "artifact", "search", "without_fp32"]


@dataclass(frozen=True)
class Lowering:
    """What was asked for.

    Attributes:
        precisions: of `runtime.bundle.precisions.PRECISIONS`.
        tier: "99" or "99.9", for int8.
        tensorrt: also write the int8 spelling for TensorRT.
        enforced: whether figures are gated; those of random weights mean nothing and are reported only.
    """

    precisions: tuple[str, ...] = ("fp32",)
    tier: str = "99"
    tensorrt: bool = False
    enforced: bool = True


@dataclass(frozen=True)
class Candidate:
    """One recipe of a search: its name, what repeats it, how it is written, and the engines it is meant for."""

    name: str
    settings: Mapping[str, str]
    write: Callable[[Path], GraphInfo]
    providers: tuple[str, ...]


# Recipes of one form, from cheap to dear: each makes its candidate, and what that takes, only when it is tried.
Form = Sequence[Callable[[], Candidate]]


def artifact(
    file: str,
    precision: str,
    info: GraphInfo,
    providers: tuple[str, ...],
    *,
    parity: tuple[ParityRecord, ...] = (),
    fidelity: tuple[FidelityRecord, ...] = (),
    recipe: Recipe | None = None,
) -> Artifact:
    """Describe a graph that was written with its weights beside it, in `<file>_data`."""
    return Artifact(
        role="embedding",
        precision=precision,
        file=file,
        external_data=((PurePosixPath(file).parent / f"{PurePosixPath(file).name}_data").as_posix(),),
        opset=info.opset,
        operators=info.operators,
        inputs=info.inputs,
        outputs=info.outputs,
        providers=providers,
        parity=parity,
        fidelity=fidelity,
        recipe=recipe,
    )


def without_fp32(artifacts: list[Artifact], lowering: Lowering, bundle: Path) -> tuple[Artifact, ...]:
    """What stays: fp32 goes, with its files, unless it was asked for, computes bf16, or is all there is."""
    others = [found for found in artifacts if found.precision != "fp32"]
    if "fp32" in lowering.precisions or "bf16" in lowering.precisions or not others:
        return tuple(artifacts)
    for found in artifacts:
        if found.precision == "fp32":
            for name in found.files:
                (bundle / name).unlink()
    return tuple(others)


def search(
    forms: Sequence[Form],
    judge: Judge,
    target: Path,
    precision: str,
    lowering: Lowering,
    what: str,
    steps: Steps,
) -> tuple[Candidate, GraphInfo, Recipe, tuple[FidelityRecord, ...]]:
    """Try recipes, cheapest first, until one holds the tier on every engine that it is meant for.

    Args:
        forms: recipes in order, by form.
        judge: measures them.
        target: the .onnx file to write; what was tried before is overwritten.
        precision: of the artifact.
        lowering: what was asked for.
        what: "text" or "image", for messages.
        steps: where each trial is shown.

    Raises:
        GateError: no recipe holds the tier; the message lists what was tried.
    """
    gates = TIERS[lowering.tier] if lowering.enforced else {}
    trials: list[Trial] = []
    for make in itertools.chain.from_iterable(forms):
        candidate = make()
        with steps.substep(f"{what} {precision}: {candidate.name}"):
            info = candidate.write(target)
            records = tuple(
                judge.record(engine, target, precision, gates) for engine in judge.engines_for(candidate.providers)
            )
        holds = not any(missed_gates(record.figures, record.gates) for record in records)
        for record in records:
            trials.append(Trial(candidate.name, record.provider, record.figures, record.milliseconds, holds))
            steps.note(f"    {_describe(record)}{'' if holds else '  below the tier'}")
        if holds:
            recipe = Recipe(candidate.name, lowering.tier, dict(candidate.settings), tuple(trials))
            return candidate, info, recipe, records
    raise GateError(
        f"No {precision} recipe for the {what} encoder holds tier {lowering.tier} "
        f"({', '.join(f'{name} ≥ {bound:g}' for name, bound in gates.items())}); no bundle was written. Tried:\n  "
        + "\n  ".join(
            f"{trial.recipe} on {trial.provider}: mean cosine {trial.figures['mean_cosine']:.5f}, neighbour agreement "
            f"{trial.figures['neighbour_agreement']:.3f}, {trial.milliseconds:.1f} ms"
            for trial in trials
        )
        + f"\nCalibrate with more of your own data, leave {precision} out, or lower the tier with --tier 99."
    )


def _describe(record: FidelityRecord) -> str:
    """One line: engine, main figures, time."""
    figures = record.figures
    return (
        f"{record.provider}: mean cosine {figures['mean_cosine']:.5f}, worst {figures['min_cosine']:.4f}, neighbour "
        f"agreement {figures['neighbour_agreement']:.3f}, {record.milliseconds:.1f} ms a batch"
    )
