"""Seconds of the soak: both engines, eight threads, and what must be noticed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import runtime
from tests.conftest import System
from tests.soak.requests import Request, make_requests, write_films
from tests.soak.run import Soak, soak


@pytest.mark.slow
def test_both_engines_answer_eight_threads_as_one(tiny: System, tmp_path: Path) -> None:
    engines = {name: runtime.load(tiny.bundle, provider=name) for name in ("cpu", "openvino")}
    requests = make_requests(write_films(tmp_path, 4), 30, 0)
    seen = soak(engines, requests, 5, gate=1e-5, settled=1)
    assert seen.faults == []
    assert len({call.partition(",")[0] for call in seen.calls}) == 2
    assert sum(seen.calls.values()) > 20


def _counting(answers: Any) -> Request:
    return Request("made up", lambda engine: engine.answer(answers))


@pytest.mark.parametrize(
    ("later", "words"), [(np.ones(3), "differs by 1"), (np.zeros(2), "differs by inf"), (None, "RuntimeError: lost")]
)
def test_wrong_answers_are_faults(later: np.ndarray | None, words: str) -> None:
    calls = iter([np.zeros(3)])

    def answer(_: object) -> np.ndarray:
        first = next(calls, later)
        if first is None:
            raise RuntimeError("lost")
        return first

    seen = soak({"cpu": SimpleNamespace(answer=answer)}, [_counting(None)], 0.05, threads=1, gate=1e-5)
    assert words in seen.faults[0]


def test_growth_is_that_after_the_first_minute() -> None:
    steady = Soak(60.0, memory=[(second, 10 * second if second < 60 else 600) for second in range(1, 300)])
    growing = Soak(60.0, memory=[(second, 600 + second) for second in range(1, 300)])
    assert steady.growth == 0
    assert growing.growth > 0.05
