"""`python -m bench loadgen`, its processes, and what it says of bad input."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import loadgen
from bench.errors import PeerError
from bench.loadgen import command, processes
from bench.loadgen.processes import follow
from bench.loadgen.systems import SYSTEMS
from bench.record import Fidelity, LoadGenRun, Report, read_report, write_json
from bench.record.report import Contestant
from runtime.errors import BundleError
from tests.conftest import System

FP32 = Contestant("engine-cpu-fp32", "this engine", "engine", provider="cpu", precision="fp32")


def start(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    loadgen.add_options(parser)
    return loadgen.run(parser.parse_args(list(arguments)))


needs_loadgen = pytest.mark.skipif(
    importlib.util.find_spec("mlperf_loadgen") is None,
    reason="mlcommons-loadgen is not installed: pip install 'cxr-engine[bench]'",
)


@needs_loadgen
@pytest.mark.slow
def test_every_scenario_in_both_modes_of_both_systems(
    tiny: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--bundle", str(tiny.bundle), "--seconds", "0.2", "--threads", "1", "--provider", "cpu")
    assert start(*options, "--logs", str(tmp_path), "--target-qps", "40", "--json") == 0
    runs = [LoadGenRun(**each) for each in json.loads(capsys.readouterr().out)]
    assert [(each.system, each.mode, each.scenario) for each in runs] == [
        (system, mode, scenario)
        for system in loadgen.SYSTEMS
        for mode in ("performance", "accuracy")
        for scenario in loadgen.SCENARIOS
    ]
    for each in runs:
        assert each.contestant == "engine-cpu-fp32", "what auto came to"
        if each.mode == "performance":
            assert each.value > 0
            assert len(each.latencies) == each.settings["queries"]
        else:
            assert each.passed is True
            assert each.settings["samples"] == SYSTEMS[each.system].judged
    assert (tmp_path / "image-SingleStream-accuracy" / "mlperf_log_accuracy.json").is_file()
    file = tmp_path / "report.json"
    write_json(Report("now", "python -m bench", loadgen=[processes._run(vars(each)) for each in runs]), file)
    assert read_report(file).loadgen[-1].fidelity is not None


@needs_loadgen
def test_short_runs_come_one_by_one(tiny: System) -> None:
    runs = loadgen.short_runs(tiny.bundle, FP32, 1, 0.1)
    found = next(runs)
    assert (found.system, found.scenario, found.mode) == ("text", "SingleStream", "performance")
    runs.close()  # as an interrupt does: the process must not stay


@needs_loadgen
def test_what_the_process_says_at_its_end_is_the_message(tiny: System, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "threads": 1,
        "official": False,
        "seconds": 0.1,
        "target_qps": None,
        "bound_seconds": None,
        "seed": 0,
        "logs": None,
    }
    with pytest.raises(PeerError, match=r"^LoadGen on text: BundleError: .*int8"):
        loadgen.run_loadgen(tiny.bundle, replace(FP32, precision="int8"), "text", "Offline", "accuracy", **given)
    with pytest.raises(PeerError, match="there is no scenario 'Online'; there are: SingleStream, MultiStream, Off"):
        loadgen.run_loadgen(tiny.bundle, FP32, "text", "Online", "accuracy", **given)
    with pytest.raises(PeerError, match="there is no system 'audio'; there are: text, image"):
        loadgen.run_loadgen(tiny.bundle, FP32, "audio", "Offline", "accuracy", **given)
    with pytest.raises(PeerError, match="there is no mode 'quick'; there are: performance, accuracy"):
        loadgen.run_loadgen(tiny.bundle, FP32, "text", "Offline", "quick", **given)
    with pytest.raises(PeerError, match="target_qps is 0; a number above 0"):
        loadgen.run_loadgen(tiny.bundle, FP32, "text", "Server", "performance", **{**given, "target_qps": 0})


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import sys, time; print('compiling', file=sys.stderr, flush=True); time.sleep(60)",
            "sign of life; .*compiling",
        ),
        ("raise SystemExit('it broke')", "^it: it broke$"),
        ("import os; os._exit(3)", "^it: exit status 3$"),
    ],
)
def test_a_process_that_hangs_or_fails_is_ended_with_what_it_said(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(PeerError, match=message):
        list(follow([sys.executable, "-c", code], tmp_path / "results", tmp_path / "alive", "it", 1.0))


@pytest.mark.slow
def test_a_process_that_gives_signs_of_life_may_take_its_time(tmp_path: Path) -> None:
    results, alive = tmp_path / "results", tmp_path / "alive"
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "for number in range(8):\n"
        "    time.sleep(0.25); Path(sys.argv[2]).touch()\n"
        "    print(number, file=open(sys.argv[1], 'a'))\n"
    )
    lines = list(follow([sys.executable, "-c", code, str(results), str(alive)], results, alive, "it", 1.5))
    assert [int(line) for line in lines] == list(range(8))


@pytest.fixture
def planted(tiny: System, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command with runs that are given instead of made."""

    def run(runs: list[LoadGenRun], *arguments: str) -> int:
        def found(spec: Any) -> Iterator[LoadGenRun]:
            yield from runs

        monkeypatch.setattr(command, "loadgen_runs", found)
        monkeypatch.setattr(command, "check_installed", lambda: None)
        return start("--bundle", str(tiny.bundle), "--system", "text", *arguments)

    return run


SLOW = LoadGenRun(
    "text",
    "Server",
    "performance",
    "engine-cpu-fp32",
    "queries a second",
    12.3,
    "1/s",
    valid=False,
    reason="Reduce target QPS to improve latency.",
    settings={"target_qps": 40.0, "bound_seconds": 0.13, "min_seconds": 5.0, "queries": 200.0},
    latencies=[0.2] * 200,
)
WRONG = LoadGenRun(
    "text",
    "Offline",
    "accuracy",
    "engine-cpu-fp32",
    "mean cosine",
    0.4,
    "",
    settings={"samples": 64.0},
    fidelity=Fidelity(0.4, -0.2, 0.7),
    gate="largest difference ≤ 1e-05",
    passed=False,
)


def test_an_invalid_run_is_shown_and_fails_only_official_ones(planted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert planted([SLOW]) == 0
    printed = capsys.readouterr().out
    assert "12.3 queries a second at 40.0 arrivals a second, p99 within 130 ms; INVALID (short, 5 s, 200" in printed
    assert "LoadGen: Reduce target QPS to improve latency." in printed
    assert planted([replace(SLOW, official=True)], "--official") == 1


def test_wrong_answers_are_shown_and_fail(planted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert planted([WRONG]) == 1
    assert (
        "accuracy FAILED: mean cosine 0.40000, min -0.20000, max abs 7.0e-01; largest diff" in capsys.readouterr().out
    )
    assert planted([replace(WRONG, passed=None)]) == 0
    assert "accuracy reported only" in capsys.readouterr().out
    assert planted([replace(WRONG, passed=True)]) == 0


def test_bad_input(tiny: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = ("--bundle", str(tiny.bundle))
    with pytest.raises(
        PeerError, match="no scenario 'Online'; there are: SingleStream, MultiStream, Offline, Server, all"
    ):
        start(*bundle, "--scenario", "Online")
    with pytest.raises(PeerError, match="no system 'audio'; there are: text, image, all"):
        start(*bundle, "--system", "audio")
    with pytest.raises(SystemExit):
        start(*bundle, "--seconds", "0")
    with pytest.raises(SystemExit):
        start(*bundle, "--seed", "-1")
    with pytest.raises(PeerError, match="seed is -1; at least 0"):
        next(loadgen.short_runs(tiny.bundle, FP32, 1, seed=-1))
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PeerError, match=r"mlcommons-loadgen is not installed\. Install it with: pip install 'cxr-eng"):
        start(*bundle)
    with pytest.raises(PeerError, match="mlcommons-loadgen is not installed"):
        next(loadgen.short_runs(tiny.bundle, FP32, 1))
    monkeypatch.undo()
    monkeypatch.setattr(command, "check_installed", lambda: None)
    with pytest.raises(BundleError):
        start("--bundle", str(tmp_path))
