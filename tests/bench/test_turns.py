"""Contestants run in turn, each in a process of its own, and what is wrong has no time."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from bench import turns
from bench.measure import PeerError
from bench.turns import Contestant, Times, lowest_cosine, take_turns
from bench.workloads import Engine
from export.sentences import SENTENCES
from tests.conftest import ROOT, System

TEXTS = list(SENTENCES[:6])


@pytest.fixture
def engine(tiny: System) -> Engine:
    return Engine(tiny.bundle, tiny.checkpoint, "cpu", "fp32")


def contestants(engine: Engine, **ours: Any) -> list[Contestant]:
    spec = {**engine.spec("engine texts", texts=TEXTS), **ours}
    return [
        Contestant("PyTorch", engine.spec("torch fp32 texts", texts=TEXTS)),
        Contestant("ours", spec, lowest_cosine(0.99999), passes=2),
    ]


def test_contestants_run_in_turn_after_their_answers_were_compared(engine: Engine) -> None:
    said: list[str] = []
    times = take_turns(contestants(engine), 3, 1, said.append)
    assert said == [
        "preparing PyTorch",
        "preparing ours",
        *(f"round {number} of 3: {name}" for number in (1, 2, 3) for name in ("PyTorch", "ours")),
    ]
    assert [(each.name, len(each.seconds)) for each in times] == [("PyTorch", 3), ("ours", 6)]
    assert all(0 < seconds < 30 for each in times for seconds in each.seconds)
    assert times[0].answer.shape == times[1].answer.shape == (len(TEXTS), 128)
    assert not np.array_equal(times[0].answer, times[1].answer), "two implementations"


def test_a_wrong_answer_has_no_time(engine: Engine) -> None:
    said: list[str] = []
    with pytest.raises(PeerError, match=r"'ours' is not timed: an embedding has cosine -?0\.\d+ with the first"):
        take_turns(contestants(engine, texts=TEXTS[::-1]), 3, 1, said.append)
    assert said == ["preparing PyTorch", "preparing ours"]
    with pytest.raises(PeerError, match=r"'ours' is not timed: its answer has shape \(5, 128\), expected \(6, 128\)"):
        take_turns(contestants(engine, texts=TEXTS[:5]), 3, 1)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"provider": "abacus"}, "no provider 'abacus'"),
        ({"peer": "mill"}, "KeyError: 'mill'"),
        ({"texts": []}, "empty"),
    ],
)
def test_a_peer_that_fails_is_named_with_its_reason(engine: Engine, wrong: dict[str, Any], reason: str) -> None:
    spec = {**engine.spec("engine texts", texts=TEXTS), **wrong}
    with pytest.raises(PeerError, match=rf"(?s)^'other' failed: .*{reason}"):
        take_turns([Contestant("other", spec)], 1, 1)


def test_a_peer_that_dies_between_two_passes_is_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Observed(turns._Process):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self._process)

    def kill(message: str) -> None:
        if message.startswith("round 2"):
            started[0].kill()
            started[0].wait()

    monkeypatch.setattr(turns, "_Process", Observed)
    with pytest.raises(PeerError, match=r"'ours' failed: .*-9"):
        take_turns([Contestant("ours", engine.spec("engine texts", texts=TEXTS))], 3, 1, kill)
    assert all(process.poll() is not None for process in started)


def test_no_process_outlives_the_measurement(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    original = subprocess.Popen

    def observed(*arguments: Any, **options: Any) -> subprocess.Popen:
        started.append(original(*arguments, **options))
        return started[-1]

    def interrupt(message: str) -> None:
        if message.startswith("round 1"):
            raise KeyboardInterrupt

    monkeypatch.setattr(turns.subprocess, "Popen", observed)
    with pytest.raises(KeyboardInterrupt):
        take_turns([Contestant("ours", engine.spec("engine texts", texts=TEXTS))], 1, 1, interrupt)
    assert len(started) == 1
    assert started[0].poll() is not None


def test_what_libraries_print_is_not_taken_for_a_report(tmp_path) -> None:
    """From C too, where replacing sys.stdout changes nothing."""
    code = (
        "import os, json, sys, numpy\n"
        "from bench import peers, worker\n"
        "def peer(spec):\n"
        "    os.write(1, b'a library says hello\\n'); print('and so does Python')\n"
        "    return lambda: numpy.ones((1, 2))\n"
        "peers.PEERS = {'loud': peer}\n"
        "worker.main({'peer': 'loud', 'answer': sys.argv[1]})\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "answer.npy")],
        input="\n\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    ready, *passes = [json.loads(line) for line in process.stdout.splitlines()]
    assert ready == {"ready": True}
    assert [list(each) for each in passes] == [["seconds"], ["seconds"]]
    assert "a library says hello" in process.stderr
    assert "and so does Python" in process.stderr


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([[1.0, 0.0], [0.0, 5.0]], None),
        ([[1.0, 0.0], [0.1, 1.0]], "cosine 0.99504"),
        ([[1.0, 0.0], [0.0, -1.0]], "cosine -1"),
        ([[1.0, 0.0], [np.nan, 1.0]], "cosine nan"),
        ([[1.0, 0.0]], "shape"),
    ],
)
def test_the_lowest_cosine_decides(found: list[list[float]], reason: str | None) -> None:
    wrong = lowest_cosine(0.999)(np.array(found), np.eye(2))
    assert wrong is None if reason is None else reason in str(wrong)


def test_the_median_is_of_all_passes() -> None:
    assert Times("x", np.empty(0), [3.0, 1.0, 8.0, 2.0]).median == 2.5
