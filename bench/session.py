"""The run: `python -m bench` measures every workload through every contestant and writes one report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from bench.errors import PeerError
from bench.loadgen import short_runs
from bench.manners import check_manners
from bench.measuring import Entry, Plan
from bench.measuring.clock import Clock
from bench.measuring.entry import peers_python
from bench.measuring.plan import Limits
from bench.measuring.turns import Turns
from bench.peers.rates import GPU_RATES
from bench.processes.machine import describe_machine, load_average, versions, versions_elsewhere
from bench.record import MEASURED, SKIPPED, LoadGenRun, Manner, Report, write_json
from bench.record.headlines import QUESTIONS, fastest, headlines
from bench.request import Request
from bench.workloads.cold_start import cold_start_case, measure_cold_starts
from bench.workloads.contestants import PARTS, choose, engines
from bench.workloads.field import known_peers, peers_of
from bench.workloads.inputs import read_texts, sample
from bench.workloads.memory import measure_memory, memory_case
from bench.workloads.model import Model, prepare
from bench.workloads.table import QUICK, WHOLE, WORKLOADS, Setting
from runtime.errors import CxrEngineError
from runtime.process.termination import Terminated, terminable

__all__ = ["Request", "describe", "measure"]

Progress = Callable[[str], None]
# Name, whether it is one of the first questions where time is bound, and what to do.
_Step = tuple[str, bool, Callable[[], None]]
_SYSTEMS = ("texts", "masks", "images", "joint")
_RATES = ("fp32", "bf16", "int8")
# Of a run of LoadGen, where time is bound and where it is not.
_LOADGEN_SECONDS = (2.0, 30.0)
# Static int8 by other tools took up to 870 s, on a busy machine of two cores.
_MAKING_SECONDS = 3600.0
# With more of a corpus's texts than any case uses, none of them has to be read again.
_MOST_TEXTS = 4096
# Of a digest, in the name of a folder.
_DIGITS = 16


def measure(request: Request, work: Path, out: Path, progress: Progress, replace: bool = True) -> Report:
    """Measure, and write report.json after every case, so that nothing is lost.

    Args:
        request: what.
        work: folder for what is made on the way.
        out: folder of the report.
        progress: called with what is going on.
        replace: a report.json that this program did not write is replaced.

    Returns:
        The report; `partial` says why it is not whole, if so: an interrupt or SIGTERM ends it, and does not raise.

    Raises:
        PeerError, CxrEngineError, OSError: nothing can be measured at all.
    """
    began = time.monotonic()
    _check_workloads(request.workloads)
    texts = _texts(request)
    choose(known_peers(), [name for name in request.peers if not name.startswith(("engine", "every-token"))], True)
    report = Report(datetime.now(timezone.utc).isoformat(timespec="seconds"), request.command)
    with terminable():
        try:
            model = prepare(
                request.checkpoint,
                request.bundle,
                request.family,
                request.precisions,
                request.seed,
                work,
                progress,
            )
            setting = _setting(request, model, texts, work)
            report.settings = _settings(request, setting)
            describe(report, model, setting)
            clock = Clock(began, request.minutes)
            # Closed at once, so that no process outlives the run.
            with closing(_steps(request, model, setting, report, clock, progress)) as steps:
                for name, first, step in steps:
                    if clock.up and first:
                        report.partial = f"the time was up ({request.minutes:g} minutes)"
                        break
                    if clock.late and not first:
                        report.not_begun.append(name)
                        continue
                    step()
                    _write(report, out, began, replace)
        except (KeyboardInterrupt, Terminated):
            if not report.model:
                raise  # nothing was measured yet
            report.partial = "interrupted"
            _drop_unmeasured(report)
    report.machine["load after"] = load_average()
    _write(report, out, began, replace)
    return report


def _drop_unmeasured(report: Report) -> None:
    """Rows whose turn had not come."""
    for case in report.cases:
        for row in case.rows:
            if row.status == MEASURED and not row.samples and not row.resident_bytes:
                row.status, row.reason = SKIPPED, "the run was interrupted before its turn came"
        for precision in [name for name, rate in case.rates.items() if not rate.samples]:
            del case.rates[precision]


def _write(report: Report, out: Path, began: float, replace: bool) -> None:
    report.seconds = time.monotonic() - began
    write_json(report, out / "report.json", replace, headlines=[asdict(each) for each in headlines(report)])


def _steps(
    request: Request, model: Model, setting: Setting, report: Report, clock: Clock, progress: Progress
) -> Generator[_Step, None, None]:
    """What is to be done, in order; each adds to the report as it goes.

    Where time is bound the first questions come before everything else, though what both need is then opened twice.
    """
    wanted = [
        workload
        for workload in WORKLOADS.values()
        if (not request.workloads or workload.name in request.workloads) and workload.fits(model.bundle)
    ]
    plans = [(plan, workload.weight) for workload in wanted if workload.plans for plan in workload.plans(setting)]
    others = {workload.name: workload.weight for workload in wanted if not workload.plans}
    if peers_python() is None and "manners" in others:
        others["manners"] = 0.0  # it is said in no time that there is nobody to ask
    clock.expect(sum(weight for _, weight in plans) + sum(others.values()))
    steps: tuple[tuple[str, Callable[[float], None]], ...] = (
        ("cold-start", lambda seconds: _cold_start(report, model, setting, seconds, progress)),
        ("memory", lambda _: _memory(report, setting, progress)),
        ("manners", lambda _: _manners(report, setting)),
        ("loadgen", lambda _: _loadgen(report, setting, progress)),
    )
    for first in (True, False) if clock.bound else (None,):
        ours = [(plan, weight) for plan, weight in plans if first in (None, _is_asked_first(plan.case.name))]
        for system, threads in dict.fromkeys((plan.system, plan.threads) for plan, _ in ours):
            group = [(plan, weight) for plan, weight in ours if (plan.system, plan.threads) == (system, threads)]
            with _turns(request, model, setting, system, threads, progress) as turns:
                for plan, weight in group:
                    seconds = clock.share(weight)
                    yield plan.case.name, bool(first), partial(_run, report, plan, turns, seconds)
        for name, measure_it in steps:
            if name in others and first in (None, _is_asked_first(name)):
                yield name, bool(first), partial(measure_it, clock.share(others[name]))


def _is_asked_first(case: str) -> bool:
    return any(case == question.case for question in QUESTIONS)


def _turns(request: Request, model: Model, setting: Setting, system: str, threads: int, progress: Progress) -> Turns:
    spec = {
        "bundle": str(model.bundle.root),
        "checkpoint": str(model.checkpoint.resolve()),
        "threads": threads,
        "made": str(setting.folder / f"made-{model.digest[:_DIGITS]}"),
        "python": sys.executable,
    }
    rates = _rates(setting) if threads == setting.threads else ()
    limits = Limits(rounds=request.rounds, making_seconds=_MAKING_SECONDS if request.minutes is None else None)
    return Turns(system, setting.entries, spec, rates=rates, limits=limits, progress=progress)


def _rates(setting: Setting) -> tuple[str, ...]:
    return (*_RATES, *(GPU_RATES if any(entry.on_gpu for entry in setting.entries) else ()))


def _run(report: Report, plan: Plan, turns: Turns, seconds: float) -> None:
    report.cases.append(plan.case)
    turns.run(plan, seconds)


def _cold_start(report: Report, model: Model, setting: Setting, seconds: float, progress: Progress) -> None:
    report.cases.append(cold_start_case())
    measure_cold_starts(report.cases[-1], setting.entries, model, setting.size.starts, seconds, progress)


def _memory(report: Report, setting: Setting, progress: Progress) -> None:
    size = setting.size
    report.cases.append(memory_case(size.requests, size.images))
    measure_memory(
        report.cases[-1], _quickest(setting), setting.bundle, setting.threads, size.requests, size.images, progress
    )


def _loadgen(report: Report, setting: Setting, progress: Progress) -> None:
    """Of this engine what came out fastest on texts, or the last that the bundle has."""
    entries = _quickest(setting)
    case = report.case("texts")
    best = case and fastest(report, case, ("engine",))
    chosen = next((entry for entry in entries if best and entry.name == best.contestant), entries[-1])
    seconds = _LOADGEN_SECONDS[setting.size is WHOLE]
    progress(f"loadgen: {chosen.contestant.label}")
    try:
        for run in short_runs(setting.bundle.root, chosen.contestant, setting.threads, seconds, seed=setting.seed):
            progress(f"loadgen: {run.system} {run.scenario} {run.mode} is done")
            report.loadgen.append(run)
    except PeerError as error:
        failed = LoadGenRun("all", "all", "performance", chosen.name, "none", 0.0, "", False, str(error))
        report.loadgen.append(failed)


def _manners(report: Report, setting: Setting) -> None:
    try:
        report.manners.extend(check_manners(setting.bundle.root, peers_python()))
    except (PeerError, CxrEngineError, OSError) as error:
        report.manners.append(Manner("all tools", "", None, reason=str(error)))


def _quickest(setting: Setting) -> list[Entry]:
    """One precision on each engine: the last that the bundle has for all its parts, which is what people take."""
    systems = {system for system, parts in PARTS.items() if set(parts) <= set(setting.bundle.parts())} - {"masks"}
    return list(
        {
            entry.contestant.provider: entry
            for entry in setting.entries
            if entry.opener == "engine" and systems <= set(entry.systems)
        }.values()
    )


def _setting(request: Request, model: Model, texts: tuple[str, ...], work: Path) -> Setting:
    entries = [*peers_of(model.bundle, model.checkpoint), *engines(model.bundle, _SYSTEMS)]
    folder = work / "drawn"
    folder.mkdir(parents=True, exist_ok=True)
    return Setting(
        model.bundle,
        choose(entries, request.peers, request.full),
        WHOLE if request.full else QUICK,
        request.threads,
        request.seed,
        folder,
        texts,
        request.texts.name if request.texts else "synthetic reports",
    )


def _texts(request: Request) -> tuple[str, ...]:
    if request.texts is None:
        return ()
    return tuple(sample(read_texts(request.texts, request.column), _MOST_TEXTS, request.seed))


def _check_workloads(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        raise PeerError(f"There is no workload {', '.join(map(repr, unknown))}; there are: {', '.join(WORKLOADS)}.")


def _settings(request: Request, setting: Setting) -> dict[str, Any]:
    return {
        "threads": request.threads,
        "rounds": request.rounds,
        "seed": request.seed,
        "full": request.full,
        "texts": setting.source if setting.texts else f"synthetic reports, seed {request.seed}",
    }


def describe(report: Report, model: Model, setting: Setting) -> None:
    """Say in a report on what machine it was made, of what model and with which contestants."""
    manifest = model.bundle.manifest
    report.machine = describe_machine()
    report.versions = {**versions(), **versions_elsewhere(peers_python())}
    source = manifest.source
    report.model = {
        "family": manifest.family,
        "source": f"random weights, seed {source.seed}" if source.kind == "random" else source.name,
        "digest": model.digest,
        "weights": dict(source.weights),
        "trained": model.trained,
        "precisions": {
            part: sorted({each.precision for each in model.bundle.artifacts(part)}) for part in model.bundle.parts()
        },
    }
    report.contestants = [entry.contestant for entry in setting.entries]
