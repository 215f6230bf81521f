"""Lines of progress in a log."""

from __future__ import annotations

import pytest

import runtime.process.progress
from runtime.process.progress import Progress


def test_a_line_now_and_then_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    clock = [0.0]
    monkeypatch.setattr(runtime.process.progress.time, "monotonic", lambda: clock[0])
    with Progress("image", 2_000_000, done=1_000_000) as progress:
        for _ in range(65):
            clock[0] += 1
            progress.advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "1,000,300 of 2,000,000 images, 10.0/s, 27 h 46 min left",
        "1,000,600 of 2,000,000 images, 10.0/s, 27 h 46 min left",
    ]
    with Progress("text", None) as progress:
        clock[0] += 40
        progress.advance(80)
    assert capsys.readouterr().err == "80 texts, 2.0/s\n"


def test_a_terminal_gets_a_bar_that_counts_from_the_beginning(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("text", 100, done=40) as progress:
        progress.advance(30)
    assert "70/100" in capsys.readouterr().err
