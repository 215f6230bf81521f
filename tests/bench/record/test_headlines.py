"""The first table: who is held against whom."""

from __future__ import annotations

import pytest

from bench.pages.case_table import case_table
from bench.pages.headline_table import headline_table
from bench.record import FAILED, MEASURED, SKIPPED, WRONG, Case, Fidelity, Rate, Report, Row
from bench.record.headlines import ON_OUR_GRAPH, QUESTIONS, REFERENCE, WITHOUT_US, fastest, headlines
from bench.record.report import Contestant
from bench.record.statistics import seconds, speedup
from tests.bench.a_report import a_report

_CONTESTANTS = [
    Contestant("reference", "", "reference"),
    Contestant("peer-slow", "", "peer"),
    Contestant("peer-fast", "", "peer", precision="bf16"),
    Contestant("peer-ours", "", "peer", precision="int8", our_graph=True),
    Contestant("peer-ours-fp32", "", "peer", our_graph=True),
    Contestant("engine-fp32", "", "engine"),
    Contestant("engine-fp32-slow", "", "engine"),
    Contestant("engine-int8", "", "engine", precision="int8"),
]
_SECONDS = {
    "reference": 12.0,
    "peer-slow": 8.0,
    "peer-fast": 3.0,
    "peer-ours": 1.5,
    "peer-ours-fp32": 5.0,
    "engine-fp32": 4.0,
    "engine-fp32-slow": 6.0,
    "engine-int8": 1.0,
}


def report(name: str = "texts", **statuses: str) -> Report:
    """Statuses of contestants by name, with _ for -; samples stay, so that only the status keeps a row out."""
    rows = [
        Row(contestant, statuses.get(contestant.replace("-", "_"), MEASURED), samples=[[value], [value]])
        for contestant, value in _SECONDS.items()
    ]
    case = Case("texts", name, "made up", "texts", 8, 0.0, "reference", rows=rows)
    return Report("2026-01-01T00:00:00+00:00", "python -m bench", contestants=_CONTESTANTS, cases=[case])


def picks(found: Report) -> list[tuple[str, str, str, float]]:
    return [(each.ours, each.theirs, each.against, each.ratio.value) for each in headlines(found)]


def test_the_fastest_of_all_and_of_fp32_against_the_three_that_are_asked_for() -> None:
    assert picks(report()) == [
        ("engine-int8", "reference", REFERENCE, 12.0),
        ("engine-int8", "peer-fast", WITHOUT_US, 3.0),
        ("engine-int8", "peer-ours", ON_OUR_GRAPH, 1.5),
        ("engine-fp32", "reference", REFERENCE, 3.0),
        ("engine-fp32", "peer-slow", WITHOUT_US, 2.0),
        ("engine-fp32", "peer-ours-fp32", ON_OUR_GRAPH, 1.25),
    ]


def test_a_loss_is_shown() -> None:
    assert picks(report(engine_int8=WRONG))[1:3] == [
        ("engine-fp32", "peer-fast", WITHOUT_US, 0.75),
        ("engine-fp32", "peer-ours", ON_OUR_GRAPH, 0.375),
    ]


@pytest.mark.parametrize("status", [WRONG, FAILED, SKIPPED])
def test_what_was_not_measured_is_never_chosen(status: str) -> None:
    ours = {"peer_ours": status, "peer_ours_fp32": status}
    assert picks(report(engine_int8=status, peer_fast=status, **ours)) == [
        ("engine-fp32", "reference", REFERENCE, 3.0),
        ("engine-fp32", "peer-slow", WITHOUT_US, 2.0),
    ]
    assert picks(report(reference=status, engine_fp32=status, engine_fp32_slow=status, **ours)) == [
        ("engine-int8", "peer-fast", WITHOUT_US, 3.0)
    ]
    assert picks(report(engine_int8=status, engine_fp32=status, engine_fp32_slow=status)) == []
    assert picks(report(reference=status, peer_slow=status, peer_fast=status, **ours)) == []


def test_the_reference_alone_is_named_once() -> None:
    found = picks(report(peer_fast=FAILED, peer_slow=FAILED))
    assert [against for _, _, against, _ in found] == [REFERENCE, ON_OUR_GRAPH] * 2


def test_fp32_is_named_once_where_it_is_the_fastest() -> None:
    assert [ours for ours, *_ in picks(report(engine_int8=WRONG))] == ["engine-fp32"] * 3


def test_cases_nobody_asks_for_first_and_missing_ones() -> None:
    assert headlines(report("shapes-8x64")) == []
    assert headlines(Report("", "")) == []


def test_fastest_of_nobody() -> None:
    found = report()
    assert fastest(found, found.cases[0], ("engine",), "bf16") is None
    assert fastest(found, found.cases[0], ()) is None


def test_a_row_without_samples_is_not_chosen() -> None:
    """The workload that looks at memory alone takes no time."""
    found = report()
    found.cases[0].row("engine-int8").samples = []
    assert {ours for ours, *_ in picks(found)} == {"engine-fp32"}


def test_figures_are_the_statistics() -> None:
    found = a_report()
    for each in headlines(found):
        case = found.case(each.case)
        ours, theirs = case.row(each.ours), case.row(each.theirs)
        assert each.ratio == speedup(ours, theirs)
        assert (each.our_seconds, each.their_seconds) == (seconds(ours), seconds(theirs))
        assert each.memory == pytest.approx(ours.peak_bytes[0] / theirs.peak_bytes[0])


def test_memory_is_unknown_where_either_is() -> None:
    found = report()
    assert {each.memory for each in headlines(found)} == {None}
    found.cases[0].row("engine-int8").peak_bytes = [1, 2, 30]
    found.cases[0].row("reference").peak_bytes = [8]
    assert [each.memory for each in headlines(found)] == [0.25, None, None, None, None, None]


def test_the_share_of_the_limit_is_that_of_our_own_precision() -> None:
    found = report()
    found.cases[0].operations = 600.0
    found.cases[0].rates = {"int8": Rate(2000.0, [[2.0], [2.0]]), "fp32": Rate(500.0, [[2.0], [2.0]])}
    told = {(each.ours, each.rate, each.limit) for each in headlines(found)}
    # 600 of 1,000 a second, 150 of 250 a second.
    assert told == {("engine-int8", "int8", 0.6), ("engine-fp32", "fp32", 0.6)}
    assert [line.cells[3].text for line in headline_table(found).lines] == ["60\N{NO-BREAK SPACE}%"] * 2
    assert [line.cells[3].small for line in headline_table(found).lines] == ["of int8", "of fp32"]
    del found.cases[0].rates["int8"]
    assert next(each.limit for each in headlines(found)) is None


def test_other_tools_int8_that_is_off_its_gate_is_held_against_and_says_so() -> None:
    found = report()
    row = found.cases[0].row("peer-fast")
    row.fidelity, row.missed = Fidelity(0.97, 0.9, 0.1, 0.8, 0.0312), "the mean cosine is 0.97"
    found.cases[0].row("engine-int8").fidelity = Fidelity(0.999, 0.998, 0.01, 0.99, 0.0011)
    first = headline_table(found).lines[0].cells
    assert first[1].small == "mean cosine 0.99900, centred 0.99000, regret 0.0011"
    assert first[5].small.endswith("mean cosine 0.97000, centred 0.80000, regret 0.0312; off its gate")
    assert "gate" not in first[4].small + first[6].small
    table = case_table(found, found.cases[0])
    assert [line.cells[0].tag for line in table.lines if line.cells[0].small] == ["off its gate"]
    assert {"Centred cosine", "Regret"} <= {column.title for column in table.columns}


def test_who_may_be_off_its_gate() -> None:
    """Other tools' int8 alone: neither ours, nor other precisions, nor others on our graph."""
    assert Contestant("x", "", "peer", precision="int8").others_int8
    ours = (
        Contestant("x", "", "engine", precision="int8"),
        Contestant("x", "", "peer", precision="int8", our_graph=True),
    )
    assert not any(each.others_int8 for each in (*ours, Contestant("x", "", "peer", precision="bf16")))


def test_every_question_is_asked_of_a_whole_report_in_order() -> None:
    assert list(dict.fromkeys(each.case for each in headlines(a_report()))) == [each.case for each in QUESTIONS]


def test_several_reports_are_one_table_by_family() -> None:
    first, second = report(), report("pixels-4")
    first.model["family"], second.model["family"] = "biovil", "biomedclip"
    table = headline_table(first, second)
    assert [column.title for column in table.columns[:2]] == ["Family", "Question"]
    alone = [line.cells for each in (first, second) for line in headline_table(each).lines]
    assert [line.cells[0].text for line in table.lines] == ["biovil"] * 2 + ["biomedclip"] * 2
    assert [line.cells[1:] for line in table.lines] == alone
