"""The questions that people ask first, and their answers from a report."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench.record.contestant import CPU, GPU, on_device
from bench.record.report import Case, Fidelity, Report, Row
from bench.record.statistics import Interval, seconds, share_of_rate, speedup

__all__ = ["ON_OUR_GRAPH", "QUESTIONS", "REFERENCE", "WITHOUT_US", "Headline", "Question", "fastest", "headlines"]

# What an engine is held against.
REFERENCE = "the reference"
WITHOUT_US = "the fastest without this project"
ON_OUR_GRAPH = "the fastest other on this project's graph"


@dataclass(frozen=True)
class Question:
    """A line of the first table.

    Attributes:
        case: its name.
        text: what is asked.
    """

    case: str
    text: str


QUESTIONS: tuple[Question, ...] = (
    Question("texts", "An archive of reports: strings → embeddings"),
    Question("batch", "A few reports at once: strings → embeddings"),
    Question("query", "One short query of 16 tokens: latency"),
    Question("files", "JPEG files of 2,500 × 2,048 → embeddings"),
    Question("pixels-4", "Four prepared images"),
    Question("joint", "One image against 14 pairs of prompts"),
    Question("labels", "One image against 14 labels"),
    Question("fill-mask", "Words for a mask in 64 tokens, eight texts"),
    Question("cold-start", "Process start → first text embedding"),
)


@dataclass(frozen=True)
class Headline:
    """This engine beside another in one case.

    Attributes:
        question: what is asked.
        case: name of the case.
        ours: name of this engine's contestant.
        theirs: name of the other contestant.
        against: `REFERENCE`, `WITHOUT_US` (the reference among them) or `ON_OUR_GRAPH`; on the same device.
        ratio: how many times as fast ours is.
        our_seconds: a pass of ours.
        their_seconds: a pass of theirs.
        memory: our process's peak memory as a share of theirs; None where either is unknown.
        limit: useful operations a second of ours, as a share of the matrix product's in the same rounds; None where
            operations are not counted or the product was not run.
        rate: which product that is, see `bench.record.report.Contestant.rate`.
        our_fidelity: how near our answers are to the reference's.
        their_fidelity: how near theirs are; None of the reference.
        missed: how far theirs are off their precision's gate, or "".
    """

    question: str
    case: str
    ours: str
    theirs: str
    against: str
    ratio: Interval
    our_seconds: Interval
    their_seconds: Interval
    memory: float | None
    limit: float | None = None
    rate: str = ""
    our_fidelity: Fidelity | None = None
    their_fidelity: Fidelity | None = None
    missed: str = ""


def headlines(report: Report) -> list[Headline]:
    """For each question whose case was measured: this engine's fastest against the reference, against the fastest that
    a user has without this project, and against the fastest other that runs one of the bundle's graphs; and this
    engine's fastest in fp32, whose answers are PyTorch's, against the same in fp32. Where the reference is the fastest
    without this project, it is named once. What runs on a GPU is held against what runs on it.
    """
    found: list[Headline] = []
    for question in QUESTIONS:
        case = report.case(question.case)
        if case is None:
            continue
        for device in (CPU, GPU):
            found += _of_device(report, case, question, device)
    return found


def _of_device(report: Report, case: Case, question: Question, device: str) -> Iterator[Headline]:
    on_gpu = device == GPU
    asked = replace(question, text=f"{question.text}, on the GPU") if on_gpu else question
    baseline = case.row(on_device(case.baseline, on_gpu))
    reference = baseline if baseline and baseline.is_timed else None
    named: set[str] = set()
    for precision in ("", "fp32"):
        ours = fastest(report, case, ("engine",), precision, device)
        if ours is None or ours.contestant in named:
            continue
        named.add(ours.contestant)
        limit = (share_of_rate(case, ours, rate := report.contestant(ours.contestant).rate), rate)
        if reference is not None:
            yield _headline(asked, ours, reference, REFERENCE, limit)
        for against, our_graph in ((WITHOUT_US, False), (ON_OUR_GRAPH, True)):
            other = fastest(report, case, ("reference", "peer"), precision, device, our_graph)
            if other is not None and other is not reference:
                yield _headline(asked, ours, other, against, limit)


def fastest(
    report: Report,
    case: Case,
    kinds: tuple[str, ...],
    precision: str = "",
    device: str = "",
    our_graph: bool | None = None,
) -> Row | None:
    """The measured row with the least median seconds.

    Args:
        report: whose contestants are meant.
        case: one of its cases.
        kinds: of contestants.
        precision: if given, of this alone; so are `device` and `our_graph`.
    """
    named = {
        each.name
        for each in report.contestants
        if each.kind in kinds and precision in ("", each.precision) and device in ("", each.device)
        if our_graph in (None, each.our_graph)
    }
    rows = [row for row in case.rows if row.is_timed and row.contestant in named]
    return min(rows, key=lambda row: seconds(row).value, default=None)


def _headline(question: Question, ours: Row, theirs: Row, against: str, limit: tuple[float | None, str]) -> Headline:
    memory = None
    if ours.peak_bytes and theirs.peak_bytes:
        memory = statistics.median(ours.peak_bytes) / statistics.median(theirs.peak_bytes)
    return Headline(
        question.text,
        question.case,
        ours.contestant,
        theirs.contestant,
        against,
        speedup(ours, theirs),
        seconds(ours),
        seconds(theirs),
        memory,
        *limit,
        ours.fidelity,
        theirs.fidelity,
        theirs.missed,
    )
