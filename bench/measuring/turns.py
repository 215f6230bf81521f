"""Let contestants run cases in turn, A B C A B C …, each in a process of its own, after their answers were compared."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bench.errors import PeerError
from bench.measuring.entry import Entry, peers_python
from bench.measuring.participant import Participant, product
from bench.measuring.parts import plan_parts
from bench.measuring.plan import Limits, Plan
from bench.peers.rates import RATE_OPERATIONS
from bench.processes import Child
from bench.record import FAILED, MEASURED, OUT_OF_TIME, SKIPPED, WRONG, Case, Fidelity, Rate, Row
from bench.record.gates import judge

__all__ = ["Limits", "Plan", "Turns"]

# PyTorch, OpenMP and OpenVINO alike; each peer also sets its own.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# A round of a contestant takes about so long, or this share of the slowest one's pass, in as many passes as fit.
_ROUND_SECONDS, _ROUND_SHARE, _MOST_PASSES = 0.25, 0.15, 20
# Threads of the one before still spin for some milliseconds.
_PAUSE_SECONDS = 0.05
# Of a case's time, for opening and for computing it once: who is not begun by then is left out, but for the essential.
_PREPARING_SHARE = 0.55
# A case in parts is planned for so many rounds, and for less than its time: what else takes time is not foreseen.
_PART_ROUNDS, _PART_SHARE = 3, 0.85
# That a round may take in any case: the machine may be busy.
_PATIENCE_SECONDS = 60.0


class Turns:
    """The processes of one system with one number of threads; a context manager, which ends them."""

    def __init__(
        self,
        system: str,
        entries: Sequence[Entry],
        spec: Mapping[str, Any],
        *,
        rates: Sequence[str] = (),
        limits: Limits | None = None,
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
        self._limits = limits or Limits()
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

        Where the time does not do for all, it does for the essential: the reference and this engine are always
        measured, others are left out, and rounds and parts become fewer.

        Args:
            plan: what.
            seconds: from now, after which no more than the least rounds are begun.

        Returns:
            The plan's case, with a row for everything that takes part: measured, or with the reason why not. On
            KeyboardInterrupt and the like the rows measured so far stand in `plan.case`, which is the same object.
        """
        began = time.monotonic()
        until = began + seconds
        case = plan.case
        least = self._write(case, "least", plan.least())
        contestants = [worker for worker in self._workers if plan.runs(worker.entry)]
        rates = list(self._rates.values()) if case.operations else []
        # A product is the same in every case.
        preparing = [*contestants, *(rate for rate in rates if rate.child is None)]
        self._prepare(preparing, least, case, began + _PREPARING_SHARE * seconds)
        self._fidelity: dict[str, Fidelity | None] = {}
        self._missed: dict[str, str] = {}
        self._judge(plan, contestants)
        parts = self._take_parts(plan, contestants, until) if plan.parts else {}
        timed: list[tuple[Participant, list[list[float]], Row | None]] = []
        for worker in [*contestants, *rates]:
            samples: list[list[float]] = []
            if worker.entry.opener == "rate":
                if worker.status == MEASURED:
                    precision = worker.entry.contestant.precision
                    case.rates[precision] = Rate(RATE_OPERATIONS[precision], samples)
                    timed.append((worker, samples, None))
                continue
            row = Row(worker.entry.name, worker.status, worker.fault, samples, self._fidelity.get(worker.entry.name))
            row.missed = self._missed.get(worker.entry.name, "")
            case.rows.append(row)
            if worker.status == MEASURED:
                items = parts.get(worker.entry.name, 0)
                if items and items != max(plan.parts):
                    row.part, row.part_items = plan.parts[items], items
                timed.append((worker, samples, row))
        self._time(case, timed, until, one_pass=bool(parts))
        for worker in [*contestants, *rates]:
            worker.end_case()
        return case

    def _write(self, case: Case, name: str, given: Mapping[str, Any]) -> Path:
        file = self._folder / f"{case.name}-{name}.json"
        file.write_text(json.dumps(given), encoding="utf-8")
        return file

    def _take_parts(self, plan: Plan, workers: Sequence[Participant], until: float) -> dict[str, int]:
        """Let each compute as much as its speed and the time allow: names → items."""
        able = [worker for worker in workers if worker.status == MEASURED]
        least = plan.parts[min(plan.parts)]
        whole = {worker.entry.name: worker.seconds / least for worker in able}
        leaders = {min(names, key=lambda name: whole[name]) for names in _sides(able) if names}
        seconds = min(until - time.monotonic(), self._limits.part_seconds)
        rounds = min(_PART_ROUNDS, self._limits.rounds)
        chosen = plan_parts(whole, plan.parts, leaders, rounds, _PART_SHARE * seconds)
        for worker in able:
            items = chosen[worker.entry.name]
            if items == min(plan.parts):
                continue
            self._progress(f"{plan.case.name}: {worker.entry.contestant.label} computes {items:,} once")
            # A large archive takes a slow one longer than a first pass may; what it may take is known by now.
            limit = self._pass_limit(whole[worker.entry.name] * plan.parts[items])
            self._compute(worker, self._write(plan.case, str(items), plan.part(items)), limit)
        self._judge(plan, workers)
        return chosen

    def _prepare(self, workers: Sequence[Participant], file: Path, case: Case, until: float) -> None:
        """Compute the case for the first time; what is not open is opened, the next one meanwhile.

        The essential come first; the others as far as the time goes.
        """
        self._progress(f"{case.name}: computing it once, to compare the answers")
        essential = [each for each in workers if each.essential(case.baseline)]
        ordered = [*essential, *(each for each in workers if each not in essential)]
        for index, worker in enumerate(ordered):
            if worker not in essential and worker.status == MEASURED and time.monotonic() > until:
                worker.fail(OUT_OF_TIME, SKIPPED)
            for each in ordered[index : index + (2 if time.monotonic() <= until else 1)]:
                self._begin(each)
            if worker.status != MEASURED:
                continue
            if not worker.opened:
                self._progress(f"{case.name}: opening {worker.entry.contestant.label}")
            self._compute(worker, file)

    def _begin(self, worker: Participant) -> None:
        """Start the process, if there is none yet."""
        if worker.status != MEASURED or worker.child is not None:
            return
        missing = worker.entry.unavailable()
        if not missing and self._limits.making_seconds is None:
            missing = worker.entry.unmade(Path(self._spec.get("made", "")))
        if missing:
            worker.fail(missing, SKIPPED)
            return
        try:
            worker.child = self._start(worker.entry)
        except OSError as error:  # an interpreter that is not there
            worker.fail(str(error))

    def _pass_limit(self, expected: float) -> float:
        """Seconds after which a pass that was expected to take so many counts as hung."""
        return _PATIENCE_SECONDS + self._limits.pass_factor * expected

    def _compute(self, worker: Participant, file: Path, limit: float | None = None) -> None:
        """Compute a case for the first time, within `limit` seconds or those that `Limits` gives."""
        assert worker.child is not None
        try:
            if not worker.opened:
                making = (self._limits.making_seconds or 0.0) if worker.entry.makes else 0.0
                worker.child.receive(self._limits.open_seconds + making)
                worker.opened = True
            answer = self._folder / "answer.npy"
            worker.child.send({"case": str(file), "answer": str(answer)})
            worker.seconds = worker.child.receive(limit or self._limits.open_seconds)[1]["seconds"]
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
            if {len(answer), len(other)} <= set(plan.parts):
                common = min(len(answer), len(other))
                answer, other = answer[:common], other[:common]
            contestant = entry.contestant
            judgement = judge(plan.system, answer, other, contestant.precision, contestant.others_int8)
            self._fidelity[entry.name], self._missed[entry.name] = judgement.fidelity, judgement.missed
            if judgement.wrong:
                worker.fail(judgement.wrong, WRONG)

    def _time(
        self,
        case: Case,
        timed: list[tuple[Participant, list[list[float]], Row | None]],
        until: float,
        one_pass: bool = False,
    ) -> None:
        slowest = max((worker.seconds for worker, _, _ in timed), default=0.0)
        wanted = max(_ROUND_SECONDS, _ROUND_SHARE * slowest)
        took = 0.0
        for number in range(self._limits.rounds):
            began = time.monotonic()
            # A round that would end too late is not begun.
            if number >= self._limits.least_rounds and began + took > until:
                break
            self._progress(f"{case.name}: round {number + 1} of {self._limits.rounds}")
            for worker, samples, row in list(timed):
                passes = 1
                if row is not None and not one_pass:
                    passes = int(np.clip(wanted / max(worker.seconds, 1e-6), 1, _MOST_PASSES))
                time.sleep(_PAUSE_SECONDS)
                try:
                    assert worker.child is not None
                    worker.child.send({"passes": passes})
                    told = worker.child.receive(self._pass_limit(passes * worker.seconds))[1]
                except PeerError as error:
                    # Its rounds so far are those of a contestant that crashes.
                    timed.remove((worker, samples, row))
                    worker.fail(str(error))
                    samples.clear()
                    if row is not None:
                        row.status, row.reason = FAILED, str(error)
                    continue
                part = 1.0 if row is None else row.part
                samples.append([seconds / part for seconds in told["seconds"]])
                if row is not None:
                    row.peak_bytes = [told["peak_bytes"]]
            took = time.monotonic() - began
        for precision in [name for name, rate in case.rates.items() if not rate.samples]:
            del case.rates[precision]


def _sides(workers: Sequence[Participant]) -> list[list[str]]:
    """Names of this engine's, of those on this project's graph, and of what there is without it."""
    sides: dict[str, list[str]] = {"engine": [], "graph": [], "without": []}
    for worker in workers:
        contestant = worker.entry.contestant
        if contestant.kind != "option" and not worker.entry.on_gpu:
            side = "engine" if contestant.kind == "engine" else "graph" if contestant.our_graph else "without"
            sides[side].append(worker.entry.name)
    return list(sides.values())
