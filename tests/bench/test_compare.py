"""`bench compare`: a planted slowdown is caught, noise is not, and what cannot be compared is said."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import compare
from bench.errors import PeerError
from bench.record import FAILED, WRONG, Rate, Report, write_json
from bench.record.changes import ALL_CASES, compare_reports
from tests.bench.made_up import KINDS, MACHINE, made_up, significant, slow_down


def test_noise_alone_raises_no_alarm() -> None:
    found = [compare_reports(made_up(2 * seed), made_up(2 * seed + 1)) for seed in range(15)]
    assert sum(bool(significant(each)) for each in found) <= 1
    assert not any(each.regressions for each in found)


def test_a_planted_slowdown_of_the_engine_is_caught() -> None:
    caught = [compare_reports(made_up(seed), made_up(100 + seed, 1.2)) for seed in range(8)]
    assert all(found.regressions for found in caught)
    assert {each.contestant for found in caught for each in found.speeds if each.regression} == {
        name for name, kind in KINDS.items() if kind == "engine"
    }


def test_cases_of_the_engine_alone_do_not_hide_what_slows_all_of_it() -> None:
    reports = [made_up(1), made_up(2, 1.2)]
    for report in reports:
        for case in report.cases[:6]:
            case.rows = [row for row in case.rows if KINDS[row.contestant] == "engine"]
            case.baseline = "engine-a"
    found = compare_reports(*reports)
    together = next(each for each in found.speeds if (each.case, each.contestant) == (ALL_CASES, "engine-b"))
    assert together.regression
    assert together.change.ratio.value == pytest.approx(1 / 1.2, rel=0.05)


def test_three_rounds_catch_it_over_all_cases() -> None:
    found = compare_reports(made_up(1, rounds=3), made_up(2, 1.2, rounds=3))
    assert (ALL_CASES, "engine-a") in significant(found)
    together = next(each for each in found.speeds if (each.case, each.contestant) == (ALL_CASES, "engine-a"))
    assert together.change.ratio.low < 1 / 1.2 < together.change.ratio.high


def test_one_row_that_is_half_as_fast_is_named_and_no_other() -> None:
    new = slow_down(made_up(2, passes=3), "engine-b", 2.0, slice(4, 5))
    found = compare_reports(made_up(1, passes=3), new)
    assert significant(found) == {("case-4", "engine-b")}
    assert [each.regression for each in found.speeds if each.significant] == [True]


def test_a_slower_baseline_on_a_slower_machine_is_no_change() -> None:
    new = made_up(2)
    for name in KINDS:
        slow_down(new, name, 3.0)
    assert not significant(compare_reports(made_up(1), replace(new, machine={**MACHINE, "processor": "another"})))
    # On one machine it is seen in the baseline's own seconds, which are no regression of the engine.
    found = compare_reports(made_up(1), new)
    assert {name for _, name in significant(found)} == {"reference"}
    assert not found.regressions


def test_faster_is_significant_but_no_regression() -> None:
    found = compare_reports(made_up(1), slow_down(made_up(2), "engine-a", 0.5))
    assert (ALL_CASES, "engine-a") in significant(found)
    assert not found.regressions


def test_a_peers_slowdown_counts_only_if_asked_for() -> None:
    old, new = made_up(1), slow_down(made_up(2), "peer-a", 1.5)
    assert "peer-a" in {name for _, name in significant(compare_reports(old, new))}
    assert not compare_reports(old, new).regressions
    assert compare_reports(old, new, everybody=True).regressions


def test_a_peer_that_became_faster_makes_no_engine_slower() -> None:
    found = compare_reports(made_up(1), slow_down(made_up(2), "peer-a", 0.4))
    assert not {name for _, name in significant(found)} - {"peer-a"}


def with_products(report: Report, seed: int) -> Report:
    """Beside the matrix products of three precisions."""
    rng = np.random.default_rng(seed)
    for case in report.cases:
        rounds = len(case.rows[0].samples)
        case.rates = {
            name: Rate(1e9, np.exp(rng.normal(0, 0.05, (rounds, 1))).tolist()) for name in ("fp32", "bf16", "int8")
        }
    return report


@pytest.mark.parametrize("slower", [0.8, 1.0, 1.25])
def test_the_reference_need_not_be_steady(slower: float) -> None:
    """It alone is faster or slower on the day; the engine's slowdown is seen beside the products, and no other is."""
    old = with_products(made_up(2), 1)
    assert (ALL_CASES, "engine-a") in significant(
        compare_reports(old, slow_down(with_products(made_up(102, 1.2), 2), "reference", slower))
    )
    same = compare_reports(old, slow_down(with_products(made_up(103), 3), "reference", slower))
    assert not {name for _, name in significant(same)} - {"reference"}


def test_matrix_products_tell_of_the_machine() -> None:
    reports = []
    for seed, slower in ((1, 1.0), (2, 1.2)):
        report = made_up(seed, slower)
        for case in report.cases:
            case.rows = [row for row in case.rows if KINDS[row.contestant] == "engine"]
            case.rates["int8"] = Rate(1e9, [[1.0 + index / 100] for index in range(5)])
        reports.append(report)
    found = compare_reports(*reports)
    assert {each.beside for each in found.speeds} == {("int8 matrix product",)}
    assert found.regressions
    for case in reports[0].cases:
        case.rates["int8"] = replace(case.rates["int8"], operations=2e9)
    assert {each.beside for each in compare_reports(*reports).speeds} == {()}


def test_the_threshold() -> None:
    old, new = made_up(1, noise=0.005), slow_down(made_up(2, noise=0.005), "engine-a", 1.15)
    assert compare_reports(old, new, 0.10).regressions
    assert not compare_reports(old, new, 0.20).regressions


def test_a_report_beside_itself_and_a_single_round() -> None:
    assert not significant(compare_reports(made_up(1), made_up(1)))
    # All cases together could still be judged; two are too few for that.
    found = compare_reports(made_up(1, rounds=1, cases=2), made_up(2, 2.0, rounds=1, cases=2))
    assert not significant(found)
    assert all(np.isinf(each.change.ratio.high) for each in found.speeds)


@pytest.mark.parametrize("status", [WRONG, FAILED])
def test_a_row_that_no_longer_works_is_a_regression(status: str) -> None:
    new = made_up(2)
    for name in ("engine-a", "peer-a"):
        row = new.cases[3].row(name)
        row.status, row.reason, row.samples = status, "cosine 0.3", []
    found = compare_reports(made_up(1), new)
    assert [(each.case, each.contestant, each.reason, each.regression) for each in found.broken] == [
        ("case-3", "peer-a", "cosine 0.3", False),
        ("case-3", "engine-a", "cosine 0.3", True),
    ]
    assert found.regressions == 1
    back = compare_reports(new, made_up(1))
    assert back.mended == ["case-3, peer-a", "case-3, engine-a"]
    assert not back.regressions


def test_without_a_baseline_seconds_are_compared_on_one_machine_only() -> None:
    old, new = made_up(1), made_up(2, 1.5)
    for report in (old, new):
        for case in report.cases:
            case.row("reference").status, case.row("reference").samples = FAILED, []
    found = compare_reports(old, new)
    assert {each.beside for each in found.speeds} == {()}
    assert found.regressions
    elsewhere = compare_reports(old, replace(new, machine={}))
    assert not elsewhere.speeds
    assert len(elsewhere.not_compared) == 12 * 5
    assert "nothing was measured beside both" in elsewhere.not_compared[0]


def test_what_is_not_in_both_and_what_is_not_alike_is_said() -> None:
    old, new = made_up(1, cases=4), made_up(2, 1.5, cases=3)
    new.cases[0].items = 16
    new.cases[1].rows = [row for row in new.cases[1].rows if row.contestant != "peer-a"]
    found = compare_reports(old, new)
    assert "case-1, peer-a" in found.only_old
    assert "case-3, engine-a" in found.only_old
    assert found.only_new == []
    assert found.not_compared == ["case-0: the two reports' cases differ in what goes in"]
    assert not [each for each in found.speeds if each.case == "case-0"]


def test_unfair_comparisons_are_said() -> None:
    old, new = made_up(1), made_up(2)
    old = replace(
        old, settings={"threads": 2}, model={"digest": "aa", "weights": {"x": "1"}}, versions={"torch": "2.6"}
    )
    new = replace(new, settings={"threads": 4}, model={"digest": "bb"}, partial="interrupted")
    new.machine |= {"cores": "4", "load before": "3.0", "time": "another"}
    assert compare_reports(old, new).cautions == [
        "the new report is partial (interrupted)",
        "machine: cores was 2, is 4",
        "settings: threads was 2, is 4",
        "versions: torch was 2.6, is unknown",
        "model: digest was aa, is bb",
        "model: weights differ",
    ]


def _run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    compare.add_options(parser)
    return compare.run(parser.parse_args(arguments))


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str, str]:
    names = tuple(str(tmp_path / f"{name}.json") for name in ("old", "same", "slow"))
    for name, report in zip(names, (made_up(1), made_up(2), made_up(3, 1.25)), strict=True):
        write_json(report, Path(name))
    return names


def test_the_command(files: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    old, same, slow = files
    assert _run(old, same) == 0
    printed = capsys.readouterr().out
    assert "72 rows compared" in printed
    assert "  none\n" in printed
    assert "no regressions" in printed
    assert _run(old, slow) == 1
    printed = capsys.readouterr().out
    assert "REGRESSION" in printed
    assert "engine-a" in printed
    assert "peer-a" not in printed
    assert _run(old, slow, "--threshold", "60") == 0
    assert _run(old, same, "--every") == 0
    assert "peer-a" in capsys.readouterr().out


def test_the_command_prints_json(files: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(files[0], files[2], "--json") == 1
    content = json.loads(capsys.readouterr().out)
    assert content["rows"] == 72
    assert content["regressions"] == sum(each["regression"] for each in content["speeds"])
    first = next(each for each in content["speeds"] if each["case"] != ALL_CASES and each["regression"])
    assert first["change"]["new"] / first["change"]["old"] == pytest.approx(first["change"]["value"])
    assert first["change"]["low"] <= first["change"]["value"] <= first["change"]["high"] < 1


def test_a_single_round_is_said_and_is_valid_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        write_json(made_up(seed, rounds=1), tmp_path / f"{name}.json")
    arguments = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    assert _run(*arguments) == 0
    assert "72 rows could not be judged" in capsys.readouterr().out
    assert _run(*arguments, "--json") == 0
    content = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert content["speeds"][-1]["change"]["high"] is None


def test_bad_input(files: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}", encoding="utf-8")
    with pytest.raises(PeerError, match=r"other\.json"):
        _run(files[0], str(other))
    with pytest.raises(OSError, match=r"missing\.json"):
        _run(str(tmp_path / "missing.json"), files[0])
    for wrong in ("-1", "nan", "ten", "inf"):
        with pytest.raises(SystemExit):
            _run(files[0], files[1], "--threshold", wrong)
    assert "--threshold" in capsys.readouterr().err


def test_reasons_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = made_up(1, cases=1), made_up(2, cases=1)
    row = new.cases[0].row("engine-a")
    row.status, row.reason = FAILED, "\x1b[31mred\nsecond line"
    compare.print_comparison(old, new, compare_reports(old, new), 10.0)
    printed = capsys.readouterr().out
    assert "failed  REGRESSION: ?[31mred" in printed
    assert "\x1b" not in printed
    assert "second line" not in printed
