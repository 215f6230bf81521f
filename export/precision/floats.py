"""The floating-point precisions of one part: fp32, fp32 computed in bfloat16, and half-precision graphs for GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from export.errors import GateError
from export.graphs import GraphSpec
from export.precision.half import convert_half, find_overflowing
from export.precision.lower import Lowering, artifact
from export.precision.misses import Asked, Misses
from export.progress import Steps
from export.proof import Judge, check_gates, missed_gates
from export.proof.fidelity import HALF_GATES
from runtime.bundle import Artifact, FidelityRecord, ParityRecord
from runtime.engines import PROVIDERS, Session, SessionOptions
from runtime.engines.providers import default_threads

__all__ = ["float_artifacts", "refuse_missed"]

_GPU = ("cuda", "tensorrt")


def float_artifacts(
    part: str,
    source: Path,
    graph: GraphSpec,
    fp32: Artifact,
    judge: Judge,
    feeds: Iterable[Mapping[str, NDArray[Any]]],
    parity: Callable[[Session, str, str], ParityRecord],
    lowering: Lowering,
    misses: Misses,
    steps: Steps,
    *,
    bf16_graph: bool,
) -> list[Artifact]:
    """Measure fp32 on held-out data, and make the other floating-point precisions that were asked for.

    Args:
        part: "text" or "image".
        source: the fp32 graph.
        graph: its names and axes.
        fp32: its artifact.
        judge: measures on held-out data.
        feeds: calibration inputs, in which fp16 looks for activations beyond its range.
        parity: opened graph, engine and precision → comparison with PyTorch on fixed cases.
        lowering: precisions asked for.
        misses: leaves out those that are not faithful enough.
        steps: where progress is shown.
        bf16_graph: whether the opset can say the graph in bf16 for GPUs; opset 18 has no bf16 convolution.

    Returns:
        The fp32 artifact with its fidelity, then those made and faithful enough.

    Raises:
        GateError, GraphError, ProviderError: one is not, cannot be made or run, and nothing may be left out.
    """
    wanted = lowering.precisions
    gates = HALF_GATES if lowering.enforced else {}
    with steps.step(f"{part}: measuring fp32 on held-out data"):
        records = [judge.record(engine, source, "fp32", {}) for engine in judge.engines_for(fp32.providers)]
        if "bf16" in wanted:
            records += _computed_in_bf16(part, fp32, judge, source, gates, misses, steps)
    artifacts = [replace(fp32, fidelity=tuple(records))]
    if "fp16" in wanted:
        target = source.with_name("model_fp16.onnx")
        file = f"{part}/onnx/{target.name}"
        with steps.step(f"{part}: converting to fp16"), misses.leaving_out(Asked(part, "fp16", file, _GPU)):
            (engine, *_) = judge.engines_for(_GPU)
            keep = find_overflowing(source, feeds, engine)
            info = convert_half(source, target, graph, "fp16", keep)
            session = engine.open(target, SessionOptions(threads=default_threads(), precision="fp16"))
            compared = parity(session, engine.name, "fp16")
            check_gates(f"{part} fp16", [compared])
            records = [judge.record(engine, target, "fp16", gates) for engine in judge.engines_for(_GPU)]
            refuse_missed(records, f"{part} fp16")
            artifacts.append(artifact(file, "fp16", info, _GPU, parity=(compared,), fidelity=tuple(records)))
    if "bf16" in wanted and bf16_graph:
        target = source.with_name("model_bf16.onnx")
        file = f"{part}/onnx/{target.name}"
        with steps.step(f"{part}: converting to bf16 for GPUs"), misses.leaving_out(Asked(part, "bf16", file, _GPU)):
            info = convert_half(source, target, graph, "bf16")
            # ONNX Runtime has no bf16 kernels for processors; OpenVINO computes the graph in float32 ("fp16" says so).
            records = [
                judge.record(engine, target, "bf16", gates, None if engine.name in _GPU else "fp16")
                for engine in judge.engines
                if engine.name in (*_GPU, "openvino") and (engine.name not in _GPU or not engine.refuses("bf16"))
            ]
            refuse_missed(records, f"{part} bf16 graph")
            artifacts.append(artifact(file, "bf16", info, _GPU, fidelity=tuple(records)))
    return artifacts


def _computed_in_bf16(
    part: str,
    fp32: Artifact,
    judge: Judge,
    source: Path,
    gates: Mapping[str, float],
    misses: Misses,
    steps: Steps,
) -> list[FidelityRecord]:
    """Measure the fp32 graph on the engines that compute it in bfloat16, where the processor has that."""
    records = []
    for name, provider in PROVIDERS.items():
        if "bf16" not in provider.from_fp32:
            continue
        reason = provider.missing() or provider.refuses("bf16")
        if reason:
            steps.note(f"    bf16 on {name} was not measured: {reason}")
        elif provider in judge.engines:
            with misses.leaving_out(Asked(part, "bf16", fp32.file, (name,))):
                record = judge.record(provider, source, "bf16", gates)
                refuse_missed([record], f"{part} computed in bf16")
                records.append(record)
    return records


def refuse_missed(records: Iterable[FidelityRecord], what: str) -> None:
    """Raise GateError if any figure misses its gate; all misses are listed."""
    missed: list[str] = []
    worst: FidelityRecord | None = None
    for record in records:
        if lines := missed_gates(record.figures, record.gates):
            missed += [f"{what} on {record.provider}: {line} ({record.items} held-out items)" for line in lines]
            worst = record
    if worst:
        raise GateError(
            "The export is not faithful enough to PyTorch", missed, required=worst.gates, best=worst.figures
        )
