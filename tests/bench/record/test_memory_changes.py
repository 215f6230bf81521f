"""Memory that changed between two reports."""

from __future__ import annotations

from bench.record import Report
from bench.record.changes import compare_reports
from tests.bench.made_up import made_up


def test_memory_growth_is_a_regression_of_the_engine_only_where_it_is_beyond_noise() -> None:
    def memory(*peaks: int, name: str = "engine-a") -> Report:
        report = made_up(1, cases=1)
        report.cases[0].row(name).peak_bytes = list(peaks)
        return report

    assert compare_reports(memory(100), memory(112)).regressions == 1
    assert compare_reports(memory(100), memory(109)).regressions == 0
    assert compare_reports(memory(100, 90, 130), memory(125, 120, 126)).memory == []
    assert compare_reports(memory(100, 101, 102), memory(125, 120, 126)).regressions == 1
    less = compare_reports(memory(112), memory(100))
    assert [each.new for each in less.memory] == [100]
    assert not less.regressions
    assert not compare_reports(memory(100, name="peer-a"), memory(200, name="peer-a")).regressions
    # One process in one case of many, which others do not bear out: said, and no regression.
    old, new = made_up(1), made_up(1)
    new.cases[0].row("engine-a").peak_bytes = [113 * 10**6]
    found = compare_reports(old, new)
    assert [each.case for each in found.memory] == ["case-0"]
    assert not found.regressions
    new.cases[0].row("engine-a").peak_bytes = [125 * 10**6]
    assert compare_reports(old, new).regressions == 1, "larger than noise"
    for case in new.cases:
        case.row("engine-a").peak_bytes = [113 * 10**6]
    assert compare_reports(old, new).regressions == 12


def test_resident_memory_at_the_end_of_a_long_run() -> None:
    old, new = made_up(1, cases=1), made_up(1, cases=1)
    old.cases[0].row("engine-a").resident_bytes = [100, 100]
    new.cases[0].row("engine-a").resident_bytes = [100, 150]
    for report in (old, new):
        report.cases[0].row("engine-a").samples = []
    assert compare_reports(old, new).regressions == 1
