"""Processes that are timed from their start, and processes that answer in lines."""

from __future__ import annotations

import sys

import pytest

from bench.errors import PeerError
from bench.processes import Child, run_process


@pytest.mark.slow
def test_a_process_is_timed_to_its_first_answer_and_its_memory_is_its_own() -> None:
    quick = run_process("report([1.0, 2.0])", [])
    late = run_process("import time; time.sleep(2); x = bytearray(200_000_000); report([1.0]); time.sleep(8)", [])
    assert quick.answer == (1.0, 2.0)
    assert 2 <= late.seconds < 8, "what comes after the answer does not count"
    assert 150e6 < late.peak_bytes - quick.peak_bytes < 260e6


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("sys.exit(3)", "exit status 3 and said nothing"),
        ("report([1.0]); sys.exit(3)", "it answered, but then ended with exit status 3"),
        ("print('hello')", "hello"),
        (
            "import time; print('warming up', file=sys.stderr, flush=True); time.sleep(60)",
            r"no answer within 3 s; it was ended\. It said: warming up",
        ),
    ],
)
def test_a_mishap_is_reported_with_its_reason(script: str, reason: str) -> None:
    with pytest.raises(PeerError, match=reason):
        run_process(script, [], seconds=3.0)


def test_much_said_on_standard_error_stops_nobody() -> None:
    """A pipe that nobody reads would, once it is full."""
    assert run_process("print('x' * 1_000_000, file=sys.stderr); report([1.0])", []).answer == (1.0,)


def test_a_process_that_died_is_found_when_it_is_asked() -> None:
    child = Child([sys.executable, "-c", "import sys; print('{}', flush=True); sys.exit('tired')"])
    try:
        assert child.receive(20)[1] == {}
        child.wait(20)
        child.send({"passes": 1})
        with pytest.raises(PeerError, match="tired"):
            child.receive(20)
        assert child.ended
    finally:
        child.stop()
        child.stop()
