"""The benchmark verifies before it times."""

from __future__ import annotations

import json

import pytest

from bench.__main__ import main
from bench.measure import PeerError, compare_processes, run_process
from tests.conftest import System


def test_a_process_is_timed_to_its_first_answer_and_its_memory_is_its_own() -> None:
    quick = run_process("report([1.0, 2.0])", [])
    late = run_process("import time; time.sleep(2); x = bytearray(200_000_000); report([1.0]); time.sleep(8)", [])
    assert quick.answer == (1.0, 2.0)
    assert 2 <= late.seconds < 8, "what comes after the answer does not count"
    assert 150e6 < late.peak_bytes - quick.peak_bytes < 260e6


def test_runs_are_interleaved_and_counted() -> None:
    scripts = {"a": ("report([0.5])", []), "b": ("report([0.5 + 1e-7])", [])}
    samples, difference = compare_processes(scripts, 3, 1e-5)
    assert [len(each.runs) for each in samples] == [3, 3]
    assert 0 < difference < 1e-5


def test_a_wrong_answer_has_no_time() -> None:
    for wrong in ("report([0.6])", "report([0.5, 0.5])", "report([float('nan')])"):
        with pytest.raises(PeerError, match=r"differ|numbers"):
            compare_processes({"a": ("report([0.5])", []), "b": (wrong, [])}, 1, 1e-5)


def test_a_crash_is_reported_with_its_reason() -> None:
    with pytest.raises(PeerError, match="ZeroDivisionError"):
        run_process("1 / 0", [])


def test_cold_start_of_the_tiny_system(tiny: System, capsys) -> None:
    arguments = ["cold-start", "--bundle", str(tiny.bundle), "--checkpoint", str(tiny.checkpoint), "--rounds", "1"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "× sooner" in printed
    assert "this engine (cpu, fp32)" in printed
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["largest_difference"] <= 1e-5
    assert main([*arguments, "--provider", "abacus"]) == 1
    assert "no provider 'abacus'" in capsys.readouterr().err
