"""What a run of `python -m bench` leaves behind: every raw sample with what is needed to judge it, as report.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.record.contestant import Contestant
from runtime.files.whole_file import whole_file

__all__ = [
    "FAILED",
    "MEASURED",
    "MET",
    "MISSED",
    "NOT_RUN",
    "OUT_OF_TIME",
    "SCHEMA_VERSION",
    "SKIPPED",
    "WRONG",
    "Case",
    "Contestant",
    "Fidelity",
    "Goal",
    "LoadGenRun",
    "Manner",
    "Rate",
    "Report",
    "Row",
    "write_json",
]

SCHEMA_VERSION = 1

# Why a contestant has no row of figures though it could have: others, and other questions, had the time.
OUT_OF_TIME = "left out: the time of this case was up"

# What a row may be. Only what was measured has samples; the others have a reason.
MEASURED, WRONG, SKIPPED, FAILED = "measured", "wrong", "skipped", "failed"
# What a goal may be.
MET, MISSED, NOT_RUN = "met", "missed", "not run"


@dataclass(frozen=True)
class Fidelity:
    """How near the answers are to the reference's: cosines of embeddings (or maps), largest difference of a number.

    The last two are those that the export's tiers ask about, see `export.proof.fidelity`: the mean cosine after the
    mean of the reference's embeddings is taken off both, and how much less alike the nearest neighbour found is, in
    standard deviations of all similarities. None where there are too few embeddings to say, and in reports of before.
    """

    mean_cosine: float
    min_cosine: float
    max_abs: float
    mean_centred_cosine: float | None = None
    neighbour_regret: float | None = None


@dataclass
class Row:
    """One contestant in one case.

    Attributes:
        contestant: its name.
        status: `MEASURED`, `WRONG`, `SKIPPED` or `FAILED`.
        reason: why it was not measured.
        samples: seconds of every counted pass, a list for each round; of a cold start from the process's start.
        fidelity: None where it gave no answer, and of the reference.
        peak_bytes: largest resident memory of its process: one number, or one for each cold start.
        resident_bytes: resident memory at points of a long run, in order; of the workload "memory" alone.
        part: share of the case's work that a pass of it computed, where all would have taken too long; its samples
            are as long as all would have taken at that rate: times `part` they are what was measured.
        part_items: how many of the case's items that was; 0 for all.
        missed: of another project's int8 that is timed all the same, how far it is off its gate, or "".
    """

    contestant: str
    status: str
    reason: str = ""
    samples: list[list[float]] = field(default_factory=list)
    fidelity: Fidelity | None = None
    peak_bytes: list[int] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)
    part: float = 1.0
    part_items: int = 0
    missed: str = ""

    @property
    def is_timed(self) -> bool:
        """Whether it has times; where memory alone is looked at there are none."""
        return self.status == MEASURED and bool(self.samples)


@dataclass
class Rate:
    """A matrix product, run in turn with the contestants: what the machine can do.

    Attributes:
        operations: of a pass.
        samples: as a row's.
    """

    operations: float
    samples: list[list[float]] = field(default_factory=list)


@dataclass
class Case:
    """One workload in one shape, with everything that ran it.

    Attributes:
        workload: its name, such as "shapes".
        name: unique in the report, such as "shapes-8x64".
        title: for people, one line: what goes in and what comes out.
        unit: what items are: "texts", "images" or "starts".
        items: in a pass.
        operations: useful ones in a pass, as the models are published; 0 where a share of a rate says nothing.
        parameters: such as {"batch": 8, "tokens": 64}, {"threads": 2}, {"texts": 256}.
        baseline: the contestant that the others are compared with.
        rows: in the order in which they ran.
        rates: of matrix products, by the name that `Contestant.rate` gives.
    """

    workload: str
    name: str
    title: str
    unit: str
    items: int
    operations: float
    baseline: str
    parameters: dict[str, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    rates: dict[str, Rate] = field(default_factory=dict)

    def row(self, contestant: str) -> Row | None:
        """The row of a contestant, if it has one."""
        return next((row for row in self.rows if row.contestant == contestant), None)


@dataclass
class LoadGenRun:
    """One run of MLPerf LoadGen against the public runtime.

    Attributes:
        system: "text" or "image".
        scenario: "SingleStream", "MultiStream", "Offline" or "Server".
        mode: "performance" or "accuracy".
        contestant: name of the engine, such as "engine-openvino-int8".
        metric: what `value` is: "p90 latency", "p99 latency of 8 samples", "samples a second", "queries a second".
        value: the metric, in `unit`.
        unit: "s" or "1/s"; in accuracy mode "".
        valid: what LoadGen says of the run; None in accuracy mode.
        reason: why it is not valid, in LoadGen's words, or "".
        official: whether the rules' durations and counts were kept.
        settings: such as {"target_qps": 40.0, "bound_seconds": 0.13, "min_seconds": 5.0}.
        latencies: seconds of every query.
        fidelity: in accuracy mode, against the bundle's fp32 graph.
        gate: in accuracy mode, what was asked of it, such as "mean cosine ≥ 0.99".
        passed: in accuracy mode.
    """

    system: str
    scenario: str
    mode: str
    contestant: str
    metric: str
    value: float
    unit: str
    valid: bool | None = None
    reason: str = ""
    official: bool = False
    settings: dict[str, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    fidelity: Fidelity | None = None
    gate: str = ""
    passed: bool | None = None


@dataclass(frozen=True)
class Manner:
    """Whether another tool opens the bundle's `text/` folder.

    Attributes:
        tool: with what of it: "optimum ORTModelForMaskedLM".
        version: of the tool, or "".
        opens: None where the tool is not installed.
        same: whether its numbers are the runtime's; None where it does not open.
        max_abs: largest difference of a number; None where it does not open.
        reason: why not, or how it has to be asked.
    """

    tool: str
    version: str
    opens: bool | None
    same: bool | None = None
    max_abs: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Goal:
    """Something that `python -m bench gpu-check` asks of a run.

    Attributes:
        name: unique in the report, such as "texts" or "parity-texts-fp16".
        asked: in words, such as "at least 600,000 tokens a second".
        status: `MET`, `MISSED` or `NOT_RUN`.
        found: the figure, with who reached it; "" where nothing was measured.
        reason: why it was not run, or what is wrong with the answers.
    """

    name: str
    asked: str
    status: str
    found: str = ""
    reason: str = ""


@dataclass
class Report:
    """A whole run.

    Attributes:
        created: when it began, ISO 8601 in UTC.
        seconds: how long it took.
        partial: why not everything was measured ("interrupted", "the time was up"), or "".
        not_begun: cases and workloads beside the first questions that the time did not reach.
        command: what to type to repeat it.
        settings: "threads", "rounds", "seed", "full", "texts" (where they come from) …
        machine: name → text, in the order to be shown: processor, instruction sets, cores, memory, governor, load, …
        versions: of Python and every library that took part.
        model: "family", "source", "digest" (of the bundle), "trained" (False for random weights), "precisions" …
        contestants: all that appear in cases and LoadGen runs.
        cases: in order.
        loadgen: in order.
        manners: in order.
        goals: of a check of the GPU, in order; else none.
    """

    created: str
    command: str
    settings: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    contestants: list[Contestant] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    loadgen: list[LoadGenRun] = field(default_factory=list)
    manners: list[Manner] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    seconds: float = 0.0
    partial: str = ""
    not_begun: list[str] = field(default_factory=list)

    def contestant(self, name: str) -> Contestant:
        """A contestant by name."""
        return next(each for each in self.contestants if each.name == name)

    def case(self, name: str) -> Case | None:
        """A case by name, if it is there."""
        return next((case for case in self.cases if case.name == name), None)


def write_json(report: Report, file: Path, replace: bool = True, **more: Any) -> None:
    """Write a report; the file appears whole or not at all.

    Args:
        report: what was measured.
        file: its name.
        replace: see `runtime.files.whole_file.whole_files`.
        more: derived figures, for those who read the file without this project; ignored by `read_report`.
    """
    content = {"schema_version": SCHEMA_VERSION, **asdict(report), **more}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with whole_file(file, replace) as partial:
        partial.write_text(text, encoding="utf-8")
