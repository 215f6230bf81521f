"""Contestants run in turn; what is wrong, absent, crashes or hangs is one row's reason and not the run's end."""

from __future__ import annotations

import dataclasses
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.measuring import Entry, Plan
from bench.measuring import turns as turns_module
from bench.measuring.turns import Limits, Turns
from bench.processes import Child
from bench.processes import child as child_module
from bench.record import FAILED, MEASURED, OUT_OF_TIME, SKIPPED, WRONG, Case
from bench.record.report import Contestant
from bench.record.statistics import speedup

FAKE = (str(Path(__file__).with_name("fake_worker.py")),)
LIMITS = Limits(rounds=3, least_rounds=2, open_seconds=20)


def entry(name: str, kind: str = "peer", precision: str = "fp32", **fake: Any) -> Entry:
    return Entry(Contestant(name, name.title(), kind, precision=precision), name, ("texts",), told={"fake": fake})


def plan(**changes: Any) -> Plan:
    case = Case("texts", "texts", "t", "texts", 3, 0.0, "reference")
    return dataclasses.replace(Plan(case, "texts", {"texts": ["a", "b", "c"]}, 1), **changes)


def run(*entries: Entry, limits: Limits = LIMITS, said: list[str] | None = None, **changes: Any) -> Case:
    progress = (lambda message: None) if said is None else said.append
    with Turns(
        "texts",
        [entry("reference", "reference", seconds=0.2), *entries],
        {"threads": 1},
        limits=limits,
        progress=progress,
        worker=FAKE,
    ) as turns:
        return turns.run(plan(**changes))


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each answer of a contestant was waited for, at most."""
    limits: list[float] = []
    receive = Child.receive

    def noted(child: Child, limit: float) -> tuple[float, dict[str, Any]]:
        limits.append(limit)
        return receive(child, limit)

    monkeypatch.setattr(Child, "receive", noted)
    return limits


def statuses(case: Case) -> dict[str, str]:
    return {row.contestant: row.status for row in case.rows}


def test_contestants_run_in_turn_after_their_answers_were_compared() -> None:
    said: list[str] = []
    case = run(entry("ours", seconds=0.1, off=1e-6), said=said)
    assert said == [
        "texts: computing it once, to compare the answers",
        "texts: opening Reference",
        "texts: opening Ours",
        *(f"texts: round {number} of 3" for number in (1, 2, 3)),
    ]
    assert statuses(case) == {"reference": MEASURED, "ours": MEASURED}
    reference, ours = case.rows
    # A round lasts about a quarter of a second for each: one pass of 0.2 s, two of 0.1 s.
    assert reference.samples == [[0.2]] * 3
    assert ours.samples == [[0.1, 0.1]] * 3
    assert speedup(ours, reference).value == pytest.approx(2.0)
    assert reference.fidelity is None
    assert ours.fidelity is not None
    assert ours.fidelity.max_abs == pytest.approx(1e-6, rel=0.1)
    assert ours.peak_bytes == [1003], "of the last round"


def test_beside_slow_ones_the_quick_take_more_passes() -> None:
    case = run(entry("slow", seconds=10.0), entry("quick", seconds=0.3))
    assert [len(row.samples[0]) for row in case.rows] == [7, 1, 5], "a round of 1.5 s"


def test_a_planted_wrong_embedding_has_no_time() -> None:
    case = run(entry("ours", off=1e-3), entry("short", rows=2), entry("nan", off=float("nan")), entry("right"))
    assert statuses(case) == {"reference": MEASURED, "ours": WRONG, "short": WRONG, "nan": WRONG, "right": MEASURED}
    ours = case.row("ours")
    assert ours is not None
    assert "differs from the reference's by 0.001" in ours.reason
    assert ours.fidelity is not None, "how wrong it is, is told"
    for name in ("ours", "short", "nan"):
        row = case.row(name)
        assert row is not None
        assert row.samples == row.peak_bytes == []
    assert "shape (2, 8), expected (3, 8)" in case.row("short").reason  # type: ignore[union-attr]
    assert "not finite" in case.row("nan").reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        ({"open": "crash"}, "it crashed at open"),
        ({"case": "crash"}, "it crashed at case"),
        ({"round": "crash", "good_rounds": 1}, "it crashed at round"),
        ({"case": "killed"}, "exit status -9"),
    ],
)
def test_a_peer_that_crashes_is_one_rows_reason(fake: dict[str, Any], reason: str) -> None:
    case = run(entry("bad", **fake), entry("good"))
    assert statuses(case) == {"reference": MEASURED, "bad": FAILED, "good": MEASURED}
    bad, good = case.rows[1:]
    assert reason in bad.reason
    assert bad.samples == []
    assert len(good.samples) == 3


@pytest.mark.parametrize(("times", "second", "third"), [(1, MEASURED, MEASURED), (2, FAILED, FAILED)])
def test_a_peer_that_crashes_is_started_again_once(tmp_path: Path, times: int, second: str, third: str) -> None:
    left = tmp_path / "times"
    left.write_text(str(times))
    bad = entry("bad", case="crash", times=str(left))
    with Turns("texts", [entry("reference", "reference"), bad], {"threads": 1}, limits=LIMITS, worker=FAKE) as turns:
        found = [statuses(turns.run(plan()))["bad"] for _ in range(3)]
    assert found == [FAILED, second, third]
    assert left.read_text() == str(times - (3 if times == 1 else 2)), "it was asked no more often"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["open", "case", "round"])
def test_a_peer_that_hangs_is_ended(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "_PATIENCE_SECONDS", 1.0)
    limits = dataclasses.replace(LIMITS, open_seconds=3.0, pass_factor=1.0)
    case = run(entry("bad", **{when: "hang"}, good_rounds=0), entry("good"), limits=limits)
    assert statuses(case) == {"reference": MEASURED, "bad": FAILED, "good": MEASURED}
    assert "no answer within" in case.rows[1].reason


def test_without_the_reference_nothing_is_timed() -> None:
    with Turns(
        "texts",
        [entry("reference", "reference", open="crash"), entry("ours")],
        {"threads": 1},
        limits=LIMITS,
        worker=FAKE,
    ) as turns:
        case = turns.run(plan())
    assert statuses(case) == {"reference": FAILED, "ours": WRONG}
    assert "'reference' gave no answer" in case.rows[1].reason


def test_what_is_not_installed_is_skipped_with_the_reason() -> None:
    absent = dataclasses.replace(entry("absent"), modules=("no_such_module",))
    case = run(absent)
    assert statuses(case)["absent"] == SKIPPED
    assert "not installed: no_such_module" in case.rows[1].reason


def test_only_those_named_and_the_baseline_take_part() -> None:
    case = run(entry("a"), entry("b"), entries=frozenset({"b"}))
    assert list(statuses(case)) == ["reference", "b"]


def test_without_time_the_essential_is_measured_and_others_when_there_is_time_again() -> None:
    ours = dataclasses.replace(entry("ours", "engine"), opener="engine")
    entries = [entry("reference", "reference"), entry("peer"), ours]
    with Turns("texts", entries, {"threads": 1}, limits=LIMITS, worker=FAKE) as turns:
        short = turns.run(plan(), seconds=0.0)
        assert statuses(short) == {"reference": MEASURED, "peer": SKIPPED, "ours": MEASURED}
        assert short.rows[1].reason == OUT_OF_TIME
        assert [len(row.samples) for row in short.rows] == [2, 0, 2], "but never too few rounds"
        again = turns.run(plan(), seconds=60.0)
        assert statuses(again) == dict.fromkeys(statuses(short), MEASURED)
        assert [len(row.samples) for row in again.rows] == [3, 3, 3]


def test_what_takes_minutes_to_make_takes_part_where_there_is_time_or_it_was_made(
    tmp_path: Path, waited: list[float]
) -> None:
    slow = dataclasses.replace(entry("slow", seconds=0.1), makes="slow-int8")

    def measured(making: float | None) -> Case:
        limits = dataclasses.replace(LIMITS, making_seconds=making)
        given = {"threads": 1, "made": str(tmp_path)}
        entries = [entry("reference", "reference", seconds=0.1), slow]
        with Turns("texts", entries, given, limits=limits, worker=FAKE) as turns:
            return turns.run(plan())

    case = measured(None)
    assert statuses(case) == {"reference": MEASURED, "slow": SKIPPED}
    assert "takes minutes to make" in case.rows[1].reason
    assert max(waited) < 1000
    assert statuses(measured(1000.0)) == {"reference": MEASURED, "slow": MEASURED}
    assert [limit for limit in waited if limit > 1000] == [LIMITS.open_seconds + 1000.0], "its opening alone"
    (tmp_path / "slow-int8").mkdir()
    assert statuses(measured(None)) == {"reference": MEASURED, "slow": MEASURED}


PARTS = {2: 0.2, 4: 0.5, 8: 1.0}


def in_parts(*entries: Entry, seconds: float, rounds: int = 3) -> Case:
    given = {"texts": [f"text {number}" for number in range(8)]}
    limits = Limits(rounds=rounds, open_seconds=20)
    with Turns("texts", entries, {"threads": 1}, limits=limits, worker=FAKE) as turns:
        return turns.run(plan(given=given, parts=PARTS), seconds=seconds)


def test_the_slow_compute_a_part_and_are_compared_as_if_it_were_all() -> None:
    """All of the leaders is 4 × (5 + 1) s, a fifth of the reference's 4 × 4 s, half of it 4 × 10 s, of 0.85 × 60 s."""
    case = in_parts(
        entry("reference", "reference", each=2.0),
        entry("peer", each=0.5),
        entry("ours", "engine", each=0.1),
        seconds=60.0,
    )
    found = {row.contestant: (row.part_items, row.part) for row in case.rows}
    assert found["ours"] == (0, 1.0)
    assert found["reference"] == (2, 0.2)
    assert found["peer"] == (0, 1.0)
    seconds = {row.contestant: row.samples[0][0] for row in case.rows}
    assert seconds["reference"] == pytest.approx(2 * 2.0 / 0.2), "as long as all would take"
    assert seconds["ours"] == pytest.approx(8 * 0.1)
    assert all(len(row.samples) == 3 for row in case.rows)


def test_without_a_bound_all_compute_all() -> None:
    case = in_parts(entry("reference", "reference", each=2.0), entry("ours", "engine", each=0.1), seconds=math.inf)
    assert [row.part_items for row in case.rows] == [0, 0]


def test_a_large_archive_may_take_a_slow_contestant_longer_than_a_first_pass(waited: list[float]) -> None:
    """Twenty minutes for all of it, where the first pass, over a quarter of it, may take 20 s."""
    case = in_parts(entry("reference", "reference", each=150.0), seconds=math.inf, rounds=1)
    assert statuses(case) == {"reference": MEASURED}
    opening, least, whole, _ = waited
    assert (opening, least) == (20, 20)
    assert whole > 8 * 150


def test_what_goes_wrong_in_the_larger_part_is_wrong() -> None:
    case = in_parts(
        entry("reference", "reference", each=0.1),
        entry("ours", "engine", each=0.1, off_from=5),
        entry("wrong", each=0.1, off=0.5),
        seconds=math.inf,
    )
    assert statuses(case) == {"reference": MEASURED, "ours": WRONG, "wrong": WRONG}
    assert case.rows[2].fidelity is not None, "how wrong it was in the first part"


def test_what_was_wrong_in_one_case_may_be_right_in_the_next() -> None:
    with Turns(
        "texts",
        [entry("reference", "reference"), entry("ours", precision="bf16", off=0.05)],
        {"threads": 1},
        limits=LIMITS,
        worker=FAKE,
    ) as turns:
        assert statuses(turns.run(plan()))["ours"] == WRONG
        once = dataclasses.replace(plan().case, name="again")
        assert statuses(turns.run(plan(case=once, given={"texts": ["a"]})))["ours"] == WRONG
        assert turns._workers[1].status == MEASURED


def test_no_process_outlives_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []
    original = subprocess.Popen

    def observed(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(original(*arguments, **options))
        return started[-1]

    def interrupt(message: str) -> None:
        if "round 2" in message:
            raise KeyboardInterrupt

    monkeypatch.setattr(child_module.subprocess, "Popen", observed)
    given = plan()
    turns = Turns(
        "texts",
        [entry("reference", "reference"), entry("ours")],
        {"threads": 1},
        progress=interrupt,
        worker=FAKE,
    )
    with pytest.raises(KeyboardInterrupt), turns:
        turns.run(given)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    assert [len(row.samples) for row in given.case.rows] == [1, 1], "what was measured is kept"


def test_other_tools_int8_off_its_gate_is_timed_and_says_so() -> None:
    case = run(entry("others", precision="int8", off=0.1), entry("ours", "engine", precision="int8", off=0.1))
    assert statuses(case) == {"reference": MEASURED, "others": MEASURED, "ours": WRONG}
    others, ours = case.row("others"), case.row("ours")
    assert others is not None
    assert ours is not None
    assert "the mean cosine with the reference is 0.9" in others.missed
    assert (len(others.samples), others.reason, ours.missed, ours.samples) == (3, "", "", [])
