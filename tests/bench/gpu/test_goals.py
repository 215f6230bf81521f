"""Whether a report meets the goals: made-up figures; nothing was measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.gpu.cases import TOKENS
from bench.gpu.goals import SPEEDS, judge_goals
from bench.pages.content import content
from bench.pages.markdown import markdown
from bench.record import CPU, FAILED, MEASURED, MET, MISSED, NOT_RUN, SKIPPED, WRONG, Case, Fidelity, Goal, Report, Row
from bench.record.report import Contestant

OURS, OTHER, THE_REFERENCE = "engine-cuda-fp16", "torch-fp16-gpu", "reference-gpu"
CONTESTANTS = [
    Contestant("reference", "", "reference"),
    Contestant(THE_REFERENCE, "", "peer", device="gpu"),
    Contestant(OTHER, "", "peer", precision="fp16", device="gpu"),
    Contestant(OURS, "", "engine", provider="cuda", precision="fp16", device="gpu"),
    Contestant("engine-cpu-fp32", "", "engine", provider="cpu"),
]
TIMED = {"texts": 0.08, "query": 0.001, "files": 0.1, "pixels-4": 0.002, "pixels-64": 0.02}
ALL = ["parity-texts-fp16", "parity-images-fp16", "texts", "query", "files", "images-4", "images-64"]


def a_row(name: str, seconds: float) -> Row:
    return Row(name, MEASURED, samples=[[seconds]] * 3, fidelity=Fidelity(1.0, 0.99999, 1e-4))


def a_report() -> Report:
    """Every goal is met: 50,000 tokens in 0.08 s, and others take 2.1 times as long."""
    cases = [
        Case(
            "parity", f"parity-{system}", "", system, 8, 0.0, "reference", rows=[a_row("reference", 1), a_row(OURS, 1)]
        )
        for system in ("texts", "images")
    ]
    for name, seconds in TIMED.items():
        rows = [
            a_row(THE_REFERENCE, 9.0),
            a_row(OTHER, 2.1 * seconds),
            a_row(OURS, seconds),
            a_row("engine-cpu-fp32", 1e-6),
        ]
        cases.append(Case(name, name, "", "texts", 8, 0.0, THE_REFERENCE, {TOKENS: 50_000}, rows))
    return Report("2026-01-01T00:00:00+00:00", "python -m bench", contestants=list(CONTESTANTS), cases=cases)


def found(report: Report, device: str = "gpu") -> dict[str, Goal]:
    return {goal.name: goal for goal in judge_goals(report, device)}


def test_all_are_met() -> None:
    goals = found(a_report())
    assert list(goals) == ALL
    assert {goal.status for goal in goals.values()} == {MET}
    assert goals["texts"].found == "625,000 tokens/s (engine-cuda-fp16)", "the processor's engine is no GPU's"
    assert goals["query"].found.startswith("1.00\N{NO-BREAK SPACE}ms")
    assert goals["files"].found == "2.10× the speed of torch-fp16-gpu (engine-cuda-fp16)"


@pytest.mark.parametrize("name", TIMED)
def test_what_is_too_slow_is_missed(name: str) -> None:
    report = a_report()
    row = report.case(name).row(OURS)  # type: ignore[union-attr]
    row.samples = [[each * 1.3 for each in passes] for passes in row.samples]  # type: ignore[union-attr]
    goals = found(report)
    missed = {speed.name for speed in SPEEDS if speed.case == name}
    assert {key for key, goal in goals.items() if goal.status == MISSED} == missed
    assert all(goals[key].found for key in missed)


def spoil(case: str, contestant: str, status: str, reason: str) -> Callable[[Report], None]:
    def change(report: Report) -> None:
        row = report.case(case).row(contestant)  # type: ignore[union-attr]
        row.status, row.reason, row.samples = status, reason, []  # type: ignore[union-attr]

    return change


@pytest.mark.parametrize(
    ("change", "name", "status", "reason"),
    [
        (spoil("parity-texts", OURS, WRONG, "far off"), "parity-texts-fp16", MISSED, "far off"),
        (spoil("parity-texts", OURS, FAILED, "log\nit crashed"), "parity-texts-fp16", MISSED, "it crashed"),
        (spoil("parity-images", OURS, SKIPPED, "not installed"), "parity-images-fp16", NOT_RUN, "not installed"),
        (spoil("texts", OURS, WRONG, "far off"), "texts", MISSED, "engine-cuda-fp16: far off"),
        (spoil("texts", OURS, SKIPPED, "not installed"), "texts", NOT_RUN, "engine-cuda-fp16: not installed"),
    ],
)
def test_what_has_no_time_says_why(change: Callable[[Report], None], name: str, status: str, reason: str) -> None:
    report = a_report()
    change(report)
    goal = found(report)[name]
    assert (goal.status, goal.reason) == (status, reason)


def test_without_the_reference_nothing_is_wrong() -> None:
    report = a_report()
    for case, baseline in (("parity-texts", "reference"), ("files", THE_REFERENCE)):
        spoil(case, OURS, WRONG, "nothing to compare with")(report)
        spoil(case, baseline, FAILED, "it crashed")(report)
    goals = found(report)
    assert goals["parity-texts-fp16"].reason == "'reference' gave no answer: it crashed"
    assert (goals["parity-texts-fp16"].status, goals["files"].status) == (NOT_RUN, NOT_RUN)


def test_what_the_time_did_not_reach_is_not_run() -> None:
    report = a_report()
    report.partial, report.cases = "the time was up (8 minutes)", report.cases[1:3]
    goals = found(report)
    assert [key for key, goal in goals.items() if goal.status == MET] == ["parity-images-fp16", "texts"]
    assert {goal.reason for goal in goals.values() if goal.status != MET} == {report.partial}


def test_alone_it_is_no_times_as_fast() -> None:
    report = a_report()
    for contestant in (OTHER, THE_REFERENCE):
        spoil("files", contestant, SKIPPED, "not installed")(report)
    assert found(report)["files"].status == NOT_RUN


def test_a_processor_meets_no_goal() -> None:
    goals = found(a_report(), CPU)
    assert {goal.status for goal in goals.values()} == {NOT_RUN}
    assert all("the processor stood in" in goal.reason and not goal.found for goal in goals.values())


def test_the_page_begins_with_them() -> None:
    report = a_report()
    report.goals = [Goal("one", "more", MISSED, "less", "too <slow>")]
    text = markdown(content(report, []))
    assert text.index("## Goals") < text.index("## How many times as fast")
    assert "| **one** | more | less | *missed*: too &lt;slow> |" in text
    report.goals = []
    assert "Goals" not in markdown(content(report, []))
