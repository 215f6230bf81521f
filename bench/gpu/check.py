"""The check itself: the model, its cases in turn, a report with goals."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from bench.gpu.cases import SIZE, contestants, plans
from bench.gpu.goals import judge_goals
from bench.measuring.clock import Clock
from bench.measuring.turns import Limits, Turns
from bench.peers.rates import GPU_RATES
from bench.processes.machine import load_average
from bench.record import CPU, GPU, MEASURED, SKIPPED, Report, write_json
from bench.record.headlines import headlines
from bench.session import describe
from bench.workloads.model import Model, prepare
from bench.workloads.setting import Setting, Size
from runtime.process.termination import Terminated, terminable

__all__ = ["Check", "check_gpu"]

# A round more is worth less than the next case.
_LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Check:
    """What is to be checked.

    Attributes:
        checkpoint: see `bench.workloads.model.prepare`; so are `bundle`, `family`, `precisions` and `seed`.
        threads: of each contestant.
        rounds: counted, at most.
        minutes: in all, with what is exported.
        stand_in: everything runs on the processor, and no goal is judged.
        command: what to type to repeat it.
        size: how much is measured.
    """

    checkpoint: Path | None
    bundle: Path | None
    family: str
    precisions: str
    seed: int
    threads: int
    rounds: int
    minutes: float
    stand_in: bool
    command: str
    size: Size = SIZE


def check_gpu(check: Check, work: Path, out: Path, progress: Callable[[str], None], replace: bool = True) -> Report:
    """Measure, judge the goals, and write report.json after every case.

    Args:
        check: what.
        work: folder for what is made on the way.
        out: folder of the report.
        progress: called with what is going on.
        replace: a report.json that this program did not write is replaced.

    Returns:
        The report; `partial` says why it is not whole, if so.

    Raises:
        PeerError, CxrEngineError, OSError: nothing can be measured at all.
    """
    began = time.monotonic()
    report = Report(datetime.now(timezone.utc).isoformat(timespec="seconds"), check.command)
    clock = Clock(began, check.minutes)

    def write() -> None:
        report.seconds = time.monotonic() - began
        report.goals = judge_goals(report, CPU if check.stand_in else GPU)
        write_json(report, out / "report.json", replace, headlines=[asdict(each) for each in headlines(report)])

    with terminable():
        try:
            model = prepare(check.checkpoint, check.bundle, check.family, check.precisions, check.seed, work, progress)
            setting = _setting(check, model, work)
            report.settings = {
                "threads": check.threads,
                "rounds": check.rounds,
                "seed": check.seed,
                "minutes": check.minutes,
                "on": "the processor, in the GPU's place" if check.stand_in else "the GPU",
                "texts": f"synthetic reports, seed {check.seed}",
            }
            describe(report, model, setting)
            _run(check, model, setting, report, clock, write, progress)
        except (KeyboardInterrupt, Terminated):
            if not report.model:
                raise  # nothing was measured yet
            report.partial = "interrupted"
            _drop_unmeasured(report)
    report.machine["load after"] = load_average()
    write()
    return report


def _setting(check: Check, model: Model, work: Path) -> Setting:
    folder = work / "drawn"
    folder.mkdir(parents=True, exist_ok=True)
    entries = contestants(model, check.stand_in)
    return Setting(model.bundle, entries, check.size, check.threads, check.seed, folder)


def _run(
    check: Check,
    model: Model,
    setting: Setting,
    report: Report,
    clock: Clock,
    write: Callable[[], None],
    progress: Callable[[str], None],
) -> None:
    """Case after case, until the time is up; each system's contestants are opened once."""
    wanted = plans(setting)
    clock.expect(sum(weight for _, weight in wanted))
    spec = {
        "bundle": str(model.bundle.root),
        "checkpoint": str(model.checkpoint.resolve()),
        "threads": check.threads,
        "made": str(setting.folder),
        "python": sys.executable,
    }
    limits = Limits(rounds=check.rounds, least_rounds=min(_LEAST_ROUNDS, check.rounds))
    rates = () if check.stand_in else GPU_RATES
    with ExitStack() as stack:
        turns: Turns | None = None
        system = ""
        for plan, weight in wanted:
            if clock.up:
                report.partial = f"the time was up ({check.minutes:g} minutes)"
                return
            if turns is None or plan.system != system:
                stack.close()  # ends the processes of the one before
                system = plan.system
                turns = stack.enter_context(
                    Turns(system, setting.entries, spec, rates=rates, limits=limits, progress=progress)
                )
            report.cases.append(plan.case)
            turns.run(plan, clock.share(weight))
            write()


def _drop_unmeasured(report: Report) -> None:
    """Rows whose turn had not come."""
    for case in report.cases:
        for row in case.rows:
            if row.status == MEASURED and not row.samples:
                row.status, row.reason = SKIPPED, "the run was interrupted before its turn came"
        for precision in [name for name, rate in case.rates.items() if not rate.samples]:
            del case.rates[precision]
