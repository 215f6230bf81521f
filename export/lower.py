"""Lower precisions of one part: measure them, gate them, search for the int8 recipe that holds its tier."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from export.errors import GateError
from export.fidelity import HALF_GATES, TIERS, missed_gates
from export.graph import GraphInfo
from export.progress import Steps
from runtime.errors import ProviderError
from runtime.manifest import Artifact, FidelityRecord, ParityRecord, Recipe, Trial
from runtime.providers import PROVIDERS, Provider, default_threads
from runtime.session import Session, SessionOptions

__all__ = ["PRECISIONS", "Candidate", "Judge", "Lowering", "artifact", "bf16_fidelity", "engines", "fidelity", "search"]

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8-dynamic")

# A graph meant for an engine that is not here is still judged, by the first of these that is.
_STAND_IN = ("cpu", "openvino")


@dataclass(frozen=True)
class Lowering:
    """What was asked for.

    Attributes:
        precisions: of `PRECISIONS`.
        tier: "99" or "99.9", for int8.
        tensorrt: also write the int8 spelling for TensorRT.
        enforced: whether figures are gated; those of random weights mean nothing and are reported only.
    """

    precisions: tuple[str, ...] = ("fp32",)
    tier: str = "99"
    tensorrt: bool = False
    enforced: bool = True


@dataclass(frozen=True)
class Judge:
    """Measures graphs of one part on held-out data.

    Attributes:
        figures: an opened graph → figures, see `export.fidelity`.
        milliseconds: an opened graph → median time of one batch.
        items: number of held-out items; data is the sha256 of their contents.
    """

    figures: Callable[[Session], dict[str, float]]
    milliseconds: Callable[[Session], float]
    items: int
    data: str

    def record(
        self, engine: Provider, model: Path, precision: str, gates: Mapping[str, float], computed: str | None = None
    ) -> FidelityRecord:
        """Open a graph, measure it, close it.

        Args:
            engine: what runs it.
            model: the .onnx file.
            precision: what is recorded; computed is what the session is opened with, if that differs.
            gates: smallest values allowed.
        """
        options = SessionOptions(threads=default_threads(), precision=computed or precision)
        session = engine.open(model, options)
        figures = self.figures(session)
        return FidelityRecord(
            provider=engine.name,
            precision=precision,
            processor=engine.processor(),
            items=self.items,
            data=self.data,
            figures=figures,
            gates={name: bound for name, bound in gates.items() if name in figures},
            milliseconds=self.milliseconds(session),
        )


@dataclass(frozen=True)
class Candidate:
    """One recipe of a search: its name, what repeats it, how it is written, and the engines it is meant for."""

    name: str
    settings: Mapping[str, str]
    write: Callable[[Path], GraphInfo]
    providers: tuple[str, ...]


def engines(names: Iterable[str]) -> tuple[Provider, ...]:
    """Those of the named engines that can run here; if none can, one that stands in for them."""
    found = tuple(PROVIDERS[name] for name in names if PROVIDERS[name].missing() is None)
    return found or tuple(PROVIDERS[name] for name in _STAND_IN if PROVIDERS[name].missing() is None)[:1]


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


def fidelity(
    judge: Judge,
    model: Path,
    precision: str,
    providers: Iterable[str],
    enforced: bool,
    what: str,
    computed: str | None = None,
) -> tuple[FidelityRecord, ...]:
    """Measure a graph on every engine it is meant for that can run here; see `Judge.record`.

    Raises:
        GateError: fp16 or bf16 misses a gate on one of them.
    """
    gates = HALF_GATES if enforced and precision in ("fp16", "bf16") else {}
    records = []
    for engine in engines(providers):
        with contextlib.suppress(ProviderError):  # installed, but this machine lacks the GPU
            records.append(judge.record(engine, model, precision, gates, computed))
    refuse_missed(records, what)
    return tuple(records)


def bf16_fidelity(judge: Judge, model: Path, enforced: bool, what: str, steps: Steps) -> tuple[FidelityRecord, ...]:
    """Measure an fp32 graph computed in bfloat16, by the engines that can and on a processor that has it."""
    able = [name for name, provider in PROVIDERS.items() if "bf16" in provider.from_fp32]
    for name in list(able):
        reason = PROVIDERS[name].missing() or PROVIDERS[name].refuses("bf16")
        if reason:
            steps.note(f"    bf16 on {name} was not measured: {reason}")
            able.remove(name)
    return fidelity(judge, model, "bf16", able, enforced, f"{what} bf16") if able else ()


def refuse_missed(records: Iterable[FidelityRecord], what: str) -> None:
    """Raise GateError for figures below their gates; all are listed."""
    missed = [
        f"{what} on {record.provider}: {line} ({record.items} held-out items)"
        for record in records
        for line in missed_gates(record.figures, record.gates)
    ]
    if missed:
        raise GateError(
            "The export is not faithful enough to PyTorch; no bundle was written.\n  " + "\n  ".join(missed)
        )


def search(
    candidates: Iterator[Candidate],
    judge: Judge,
    target: Path,
    precision: str,
    lowering: Lowering,
    what: str,
    steps: Steps,
) -> tuple[Candidate, GraphInfo, Recipe, tuple[FidelityRecord, ...]]:
    """Try recipes, cheapest first, until one holds the tier on every engine that it is meant for.

    Args:
        candidates: recipes in order; made only when they are tried.
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
    for candidate in candidates:
        with steps.substep(f"{what} {precision}: {candidate.name}"):
            info = candidate.write(target)
            records = tuple(judge.record(engine, target, precision, gates) for engine in engines(candidate.providers))
        holds = not any(missed_gates(record.figures, record.gates) for record in records)
        for record in records:
            trials.append(Trial(candidate.name, record.provider, record.figures, record.milliseconds, holds))
            steps.note(f"    {describe_figures(record)}{'' if holds else '  below the tier'}")
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


def describe_figures(record: FidelityRecord) -> str:
    """One line: engine, main figures, time."""
    figures = record.figures
    return (
        f"{record.provider}: mean cosine {figures['mean_cosine']:.5f}, worst {figures['min_cosine']:.4f}, neighbour "
        f"agreement {figures['neighbour_agreement']:.3f}, {record.milliseconds:.1f} ms a batch"
    )
