"""Let contestants run cases in turn, A B C A B C …, each in a process of its own, after their answers were compared."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bench.errors import PeerError
from bench.measuring.entry import Entry, peers_python
from bench.measuring.participant import Participant, product
from bench.peers.rates import RATE_OPERATIONS
from bench.processes import Child
from bench.record import FAILED, MEASURED, SKIPPED, WRONG, Case, Fidelity, Rate, Row
from bench.record.gates import judge

__all__ = ["Limits", "Plan", "Turns"]

# PyTorch, OpenMP and OpenVINO alike; each peer also sets its own.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# A round of a contestant takes about so long, or this share of the slowest one's pass, in as many passes as fit.
_ROUND_SECONDS, _ROUND_SHARE, _MOST_PASSES = 0.25, 0.15, 20
# Threads of the one before still spin for some milliseconds.
_PAUSE_SECONDS = 0.05
# That a round may take in any case: the machine may be busy.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """Bounds on a case.

    Attributes:
        rounds: counted, at most.
        least_rounds: counted, at least, however long they take.
        open_seconds: within which a contestant must have opened its model, and within which it must have computed a
            case for the first time, which may compile.
        pass_factor: how many times as long as the first one a pass may take before it counts as hung.
    """

    rounds: int = 5
    least_rounds: int = 3
    open_seconds: float = 240.0
    pass_factor: float = 30.0


@dataclass(frozen=True)
class Plan:
    """A case with what its contestants are given.

    Attributes:
        case: without rows.
        system: of `bench.peers`: "texts", "images", "masks" or "joint".
        given: what `bench.peers.contract` says a case gives.
        entries: names of those that run it beside the baseline; None is all.
        chief: lets contestants take part that are measured seldom.
        kind: "files" lets contestants take part that are for files alone.
        threads: of each.
    """

    case: Case
    system: str
    given: Mapping[str, Any]
    threads: int
    entries: frozenset[str] | None = None
    chief: bool = False
    kind: str = ""

    def runs(self, entry: Entry) -> bool:
        """Whether a contestant takes part."""
        able = self.system in entry.systems or (self.kind != "" and self.kind in entry.systems)
        if entry.seldom and not self.chief:
            return False
        return able and (self.entries is None or entry.name in self.entries or entry.name == self.case.baseline)


class Turns:
    """The processes of one system with one number of threads; a context manager, which ends them."""

    def __init__(
        self,
        system: str,
        entries: Sequence[Entry],
        spec: Mapping[str, Any],
        *,
        rates: Sequence[str] = (),
        limits: Limits = Limits(),
        progress: Callable[[str], None] = lambda message: None,
        worker: Sequence[str] = ("-m", "bench.measuring.worker"),
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            system: what all plans ask for.
            entries: contestants, the reference first.
            spec: what every worker is told: "bundle", "checkpoint", "threads".
            rates: precisions whose matrix products run beside them.
            limits: bounds on each case.
            progress: called with what is going on.
            worker: Python's arguments for a process that does what `bench.measuring.worker` does.
        """
        self._worker = tuple(worker)
        self._system = system
        self._spec = dict(spec)
        self._limits = limits
        self._progress = progress
        self._workers = [Participant(entry) for entry in entries]
        self._rates = {precision: Participant(product(precision)) for precision in rates}
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cxr-bench-")))

    def __enter__(self) -> Turns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in (*self._workers, *self._rates.values()):
            worker.stop()
        self._stack.close()

    def run(self, plan: Plan, seconds: float = math.inf) -> Case:
        """Compare the answers, then time in turn.

        Args:
            plan: what.
            seconds: from now, after which no more than the least rounds are begun.

        Returns:
            The plan's case, with a row for everything that takes part: measured, or with the reason why not. On
            KeyboardInterrupt and the like the rows measured so far stand in `plan.case`, which is the same object.
        """
        until = time.monotonic() + seconds
        case = plan.case
        file = self._folder / f"{case.name}.json"
        file.write_text(json.dumps(plan.given), encoding="utf-8")
        contestants = [worker for worker in self._workers if plan.runs(worker.entry)]
        rates = list(self._rates.values()) if case.operations else []
        # A product is the same in every case.
        self._prepare([*contestants, *(rate for rate in rates if rate.child is None)], file, case.name)
        self._judge(plan, contestants)
        workers = [*contestants, *rates]
        timed: list[tuple[Participant, list[list[float]], Row | None]] = []
        for worker in workers:
            samples: list[list[float]] = []
            if worker.entry.opener == "rate":
                if worker.status == MEASURED:
                    precision = worker.entry.contestant.precision
                    case.rates[precision] = Rate(RATE_OPERATIONS[precision], samples)
                    timed.append((worker, samples, None))
                continue
            row = Row(worker.entry.name, worker.status, worker.fault, samples, self._fidelity.get(worker.entry.name))
            case.rows.append(row)
            if worker.status == MEASURED:
                timed.append((worker, samples, row))
        self._time(case, timed, until)
        for worker in workers:
            worker.end_case()
        return case

    def _prepare(self, workers: Sequence[Participant], file: Path, name: str) -> None:
        """Compute the case for the first time; what is not open is opened, the next one meanwhile."""
        self._progress(f"{name}: computing it once, to compare the answers")
        for index, worker in enumerate(workers):
            for each in workers[index : index + 2]:
                self._begin(each)
            if worker.status != MEASURED:
                continue
            if not worker.opened:
                self._progress(f"{name}: opening {worker.entry.contestant.label}")
            self._compute(worker, file)

    def _begin(self, worker: Participant) -> None:
        """Start the process, if there is none yet."""
        if worker.status != MEASURED or worker.child is not None:
            return
        missing = worker.entry.unavailable()
        if missing:
            worker.fail(missing, SKIPPED)
            return
        try:
            worker.child = self._start(worker.entry)
        except OSError as error:  # an interpreter that is not there
            worker.fail(str(error))

    def _compute(self, worker: Participant, file: Path) -> None:
        assert worker.child is not None
        try:
            if not worker.opened:
                worker.child.receive(self._limits.open_seconds)
                worker.opened = True
            answer = self._folder / "answer.npy"
            worker.child.send({"case": str(file), "answer": str(answer)})
            worker.seconds = worker.child.receive(self._limits.open_seconds)[1]["seconds"]
            worker.answer = np.load(answer)
        except (PeerError, OSError) as error:
            worker.fail(str(error))

    def _start(self, entry: Entry) -> Child:
        spec = {
            **self._spec,
            "peer": entry.opener,
            "system": self._system,
            "precision": entry.contestant.precision,
            **entry.told,
        }
        # No name of a contestant goes into the path: they are the user's to choose.
        file = self._folder / f"spec-{len(list(self._folder.glob('spec-*')))}.json"
        file.write_text(json.dumps(spec), encoding="utf-8")
        python = str((entry.foreign and peers_python()) or sys.executable)
        threads = str(self._spec["threads"])
        return Child([python, *self._worker, str(file)], dict.fromkeys(_THREAD_VARIABLES, threads))

    def _judge(self, plan: Plan, workers: Sequence[Participant]) -> None:
        """Compare each answer with the reference's, or where that says nothing with its partner's."""
        self._fidelity: dict[str, Fidelity | None] = {}
        answers = {worker.entry.name: worker.answer for worker in workers if worker.status == MEASURED}
        expected = answers.get(plan.case.baseline)
        for worker in workers:
            entry, answer = worker.entry, worker.answer
            if worker.status != MEASURED or answer is None or entry.name == plan.case.baseline:
                continue
            other = expected
            if plan.system == "masks" and entry.contestant.precision != "fp32":
                other = answers.get(entry.partner)
            if other is None:
                worker.fail(f"'{plan.case.baseline}' gave no answer to compare its own with", WRONG)
                continue
            judgement = judge(plan.system, answer, other, entry.contestant.precision)
            self._fidelity[entry.name] = judgement.fidelity
            if judgement.wrong:
                worker.fail(judgement.wrong, WRONG)

    def _time(self, case: Case, timed: list[tuple[Participant, list[list[float]], Row | None]], until: float) -> None:
        slowest = max((worker.seconds for worker, _, _ in timed), default=0.0)
        wanted = max(_ROUND_SECONDS, _ROUND_SHARE * slowest)
        for number in range(self._limits.rounds):
            if number >= self._limits.least_rounds and time.monotonic() > until:
                break
            self._progress(f"{case.name}: round {number + 1} of {self._limits.rounds}")
            for worker, samples, row in list(timed):
                passes = 1
                if row is not None:
                    passes = int(np.clip(wanted / max(worker.seconds, 1e-6), 1, _MOST_PASSES))
                time.sleep(_PAUSE_SECONDS)
                try:
                    assert worker.child is not None
                    worker.child.send({"passes": passes})
                    limit = _PATIENCE_SECONDS + self._limits.pass_factor * passes * worker.seconds
                    told = worker.child.receive(limit)[1]
                except PeerError as error:
                    # Its rounds so far are those of a contestant that crashes.
                    timed.remove((worker, samples, row))
                    worker.fail(str(error))
                    samples.clear()
                    if row is not None:
                        row.status, row.reason = FAILED, str(error)
                    continue
                samples.append(told["seconds"])
                if row is not None:
                    row.peak_bytes = [told["peak_bytes"]]
        for precision in [name for name, rate in case.rates.items() if not rate.samples]:
            del case.rates[precision]
