"""The load client: what it sends and when, what it notes, and that it leaves nothing out."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bench.serving.load.client import Client
from bench.serving.load.connection import NEVER
from bench.serving.load.outcome import LEFT, Outcome, Record
from bench.serving.load.plan import Request, Stream, arrival_times
from tests.bench.serving.echo import echo_server

PATHS = ("/echo", "/wait", "/busy", "/close", "/endless", "/chunked", "/drop")
REQUESTS = [Request(path, f"a body for {path}".encode()) for path in PATHS]
NUMBER = {path: number for number, path in enumerate(PATHS)}


def test_answers_come_back_as_they_were_sent_whatever_their_form() -> None:
    paths = ("/echo", "/chunked", "/close", "/echo", "/endless", "/echo")
    with echo_server() as echo, Client("127.0.0.1", echo.port, REQUESTS) as client:
        outcome = client.run(Stream([NUMBER[path] for path in paths], count=len(paths)))
    assert outcome.status.tolist() == [200] * len(paths)
    assert outcome.bodies == [f"a body for {path}".encode() for path in paths]
    assert outcome.cpu_seconds > 0


def test_refusals_and_broken_connections_are_told_apart() -> None:
    paths = ("/busy", "/drop", "/echo")
    with echo_server() as echo, Client("127.0.0.1", echo.port, REQUESTS) as client:
        outcome = client.run(Stream([NUMBER[path] for path in paths], count=3))
        echo.stop()
        time.sleep(0.2)
        gone = client.run(Stream([0], count=2, pause=0.01))
    assert outcome.counts() == {"429": 1, "unanswered": 1, "200": 1}
    assert outcome.retry_after.tolist() == [3.0, -1.0, -1.0]
    assert gone.counts() == {"no connection": 2}


def test_a_closed_loop_sends_the_next_request_when_it_has_its_answer() -> None:
    with echo_server(wait=0.05) as echo, Client("127.0.0.1", echo.port, REQUESTS) as client:
        outcome = client.run(Stream([NUMBER["/wait"]], connections=4, seconds=1.0))
    assert echo.most_open == 4
    assert 40 <= len(outcome.status) <= 84, "at most 4 / 0.05 s"
    assert outcome.latency.min() >= 0.05
    assert outcome.quantile(0.5) == pytest.approx(0.05, abs=0.03)


def test_a_count_is_kept_by_all_connections_together() -> None:
    with echo_server() as echo, Client("127.0.0.1", echo.port, REQUESTS) as client:
        outcome = client.run(Stream([0, NUMBER["/chunked"]], connections=3, count=10))
    assert echo.asked == 10
    assert sorted(outcome.request.tolist()) == [0] * 5 + [NUMBER["/chunked"]] * 5


def test_an_open_loop_counts_those_that_were_due_while_the_server_stood_still() -> None:
    rate, stall = 200.0, 0.5
    with echo_server() as echo, Client("127.0.0.1", echo.port, REQUESTS) as client:
        running = client.start([Stream([0], connections=1, rate=rate, seconds=1.5, seed=1)])
        time.sleep(0.3)
        echo.stalled_until = time.perf_counter() + stall
        outcome = running.wait()
    due_meanwhile = rate * stall
    late = outcome.latency > 0.1
    # 4/5 of them waited for more than a fifth of the stall.
    assert 0.6 * due_meanwhile <= late.sum() <= 1.2 * due_meanwhile
    assert outcome.quantile(0.99) > 0.8 * stall
    # What a client sees that looks at the clock when it sends: one slow request.
    service = outcome.ended - outcome.begun
    assert (service > 0.1).sum() == 1


def test_an_open_loop_sends_although_nothing_is_answered() -> None:
    with echo_server(wait=0.4) as echo, Client("127.0.0.1", echo.port, REQUESTS) as client:
        outcome = client.run(Stream([NUMBER["/wait"]], connections=500, rate=300.0, seconds=0.5))
    assert echo.most_open > 50
    assert outcome.quantile(0.5) == pytest.approx(0.4, abs=0.15)
    assert np.quantile(outcome.begun - outcome.due, 0.5) < 0.05


def test_what_is_never_answered_is_noted() -> None:
    with echo_server(wait=30.0) as echo, Client("127.0.0.1", echo.port, REQUESTS) as client:
        outcome = client.run(Stream([NUMBER["/wait"]], 50, rate=100.0, count=20), patience=0.2)
        closed = client.run(Stream([NUMBER["/wait"], 0], count=4), patience=0.2)
    assert outcome.status.tolist() == [NEVER] * 20
    assert closed.status.tolist() == [NEVER, 200, NEVER, 200]


def test_clients_that_leave_are_as_many_as_asked_for() -> None:
    with echo_server(wait=0.2) as echo, Client("127.0.0.1", echo.port, REQUESTS) as client:
        stream = Stream([NUMBER["/wait"]], 400, rate=400.0, count=200, leave=0.3, leave_seconds=0.05, seed=3)
        outcome = client.run(stream)
    left = int((outcome.status == LEFT).sum())
    assert 35 <= left <= 85
    assert int(outcome.ok.sum()) == 200 - left


def test_streams_run_side_by_side() -> None:
    with echo_server(wait=0.2) as echo, Client("127.0.0.1", echo.port, REQUESTS) as client:
        outcome = client.run(Stream([0], count=5), Stream([NUMBER["/wait"]], count=5))
    slow = outcome.of(outcome.stream == 1)
    assert len(slow.bodies) == 5
    assert outcome.seconds < 1.5
    assert set(slow.bodies) == {b"a body for /wait"}


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    times = arrival_times(250.0, 200.0, None, 5)
    assert abs(len(times) - 50_000) < 4 * 50_000**0.5
    gaps = np.diff(times)
    assert gaps.min() >= 0
    # Of an exponential distribution mean and standard deviation are equal, and a share of 1 / e exceeds the mean.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert np.mean(gaps > gaps.mean()) == pytest.approx(np.exp(-1), abs=0.01)
    # Counts of disjoint seconds: as large a variance as mean.
    counts = np.histogram(times, bins=np.arange(201))[0]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.4)
    assert np.array_equal(times, arrival_times(250.0, 200.0, None, 5))
    assert not np.array_equal(times[:100], arrival_times(250.0, 200.0, None, 6)[:100])
    assert len(arrival_times(250.0, None, 7, 0)) == 7
    with pytest.raises(ValueError, match="bound"):
        arrival_times(1.0, None, None, 0)


def test_figures_of_an_outcome(tmp_path) -> None:
    statuses = [200] * 100 + [429] * 2
    latencies = [*np.arange(1, 101) / 100, 0.02, 0.04]
    records = [
        Record(0, number, 10.0, 10.5, 10.0 + latency, status, -1.0, bytes([number]))
        for number, (status, latency) in enumerate(zip(statuses, latencies, strict=True))
    ]
    outcome = Outcome.made_of(records)
    assert outcome.quantile(0.99) == pytest.approx(1.0), "an observed one, the next above"
    assert outcome.quantile(0.5) == pytest.approx(0.51)
    assert outcome.quantile(0.99, 429) == pytest.approx(0.04)
    assert np.isnan(outcome.quantile(0.5, 500))
    assert outcome.within(10.0, 10.105) == 10
    assert outcome.seconds == pytest.approx(1.0)
    outcome.save(tmp_path / "outcome")
    again = Outcome.load(tmp_path / "outcome")
    assert again.bodies == outcome.bodies
    assert again.latency.tolist() == outcome.latency.tolist()
    assert again.counts() == {"200": 100, "429": 2}
