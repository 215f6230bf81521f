"""The scenarios of speed and load against a small server: their figures add up, and a server's faults are found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.serving.result import Figure, Result
from bench.serving.scenarios import SCENARIOS
from bench.serving.scenarios.peers import Point, best_within


def figure(result: Result, what: str) -> Figure:
    return next(each for each in result.figures if each.what.startswith(what))


def test_throughput_is_that_of_the_same_texts_in_both_places(setting) -> None:
    result = SCENARIOS["throughput"].run(setting())
    share, served, own = (figure(result, what).value for what in ("share of engine", "served", "in process"))
    taken, in_process = result.samples["served"], result.samples["in process"]
    assert len(taken) == len(in_process) == 2
    assert share == pytest.approx(np.median(np.divide(in_process, taken)))
    assert served * np.median(taken) == pytest.approx(own * np.median(in_process)), "as many texts"
    assert figure(result, "wrong answers").met
    assert figure(result, "share of swapped").value == 1


@pytest.mark.slow
def test_latency_tells_a_server_that_waits(setting) -> None:
    result = SCENARIOS["latency"].run(setting("--wait", "0.02"))
    assert figure(result, "added at the median").value >= 20
    assert figure(result, "added at the median").met is False
    assert result.missed


def test_answers_that_are_someone_elses_are_found(setting) -> None:
    result = SCENARIOS["poisson"].run(setting("--swap"))
    wrong = figure(result, "wrong answers")
    assert wrong.value > 10
    assert wrong.met is False
    assert figure(result, "not answered with 200").value == 0


@pytest.mark.slow
def test_poisson_offers_its_share_of_capacity(setting) -> None:
    result = SCENARIOS["poisson"].run(setting(seconds=1.5))
    capacity, offered = figure(result, "capacity").value, figure(result, "offered").value
    assert offered == pytest.approx(0.7 * capacity, rel=0.3)
    assert figure(result, "p99 /").value >= 1
    assert figure(result, "p50").value <= figure(result, "p99").value
    assert result.figures[0].met is (result.figures[0].value <= 6)


@pytest.mark.slow
def test_overload_is_three_times_what_can_be_answered(setting) -> None:
    # Four at a time, 20 ms each: 200 a second.
    result = SCENARIOS["overload"].run(setting("--wait", "0.02", "--accept", "4", seconds=2.0))
    assert figure(result, "429 within").value < 2000
    assert "Retry-After from 1 to 1 s" in figure(result, "429 without").note
    assert figure(result, "neither 200 nor 429").value == 0
    assert result.settings["rate"] == pytest.approx(3 * result.settings["capacity"])
    answered, refused = (len(result.samples[each]) for each in ("seconds to 200", "seconds to 429"))
    assert answered + refused == pytest.approx(2.0 * result.settings["rate"], rel=0.25)
    assert refused > 0
    assert figure(result, "goodput").value <= 1.05 * answered / 2.0 / result.settings["capacity"]


@pytest.mark.slow
def test_a_bulk_request_is_one_of_a_thousand_texts(setting) -> None:
    result = SCENARIOS["bulk-and-query"].run(setting(seconds=1.0))
    assert figure(result, "wrong answers").met
    assert next(each for each in result.figures if each.what.startswith("a request of")).value > 0
    assert figure(result, "share of swapped").value == 1


def test_the_floor_is_far_above_the_rest(setting) -> None:
    result = SCENARIOS["floor"].run(setting())
    assert figure(result, "this client").value > 100
    assert math.isnan(figure(result, "wrk").value) or figure(result, "wrk").value > 100


def test_equal_p99_is_the_best_load_within_a_bound() -> None:
    points = [Point(1, 50.0, 0.02), Point(8, 90.0, 0.1), Point(16, 85.0, 0.3), Point(32, 95.0, 0.6)]
    assert best_within(points, 0.1) == 90.0
    assert best_within(points, 0.5) == 90.0
    assert best_within(points, 1.0) == 95.0
    assert math.isnan(best_within(points, 0.01))


def test_goals_have_a_direction() -> None:
    assert Figure("x", 1.4, "ms", 1.5, True).met is True
    assert Figure("x", 1.6, "ms", 1.5, True).met is False
    assert Figure("x", 0.91, "", 0.9).met is True
    assert Figure("x", 0.89, "", 0.9).met is False
    assert Figure("x", math.nan, "", 0.9).met is False, "what could not be measured is no success"
    assert Figure("x", math.nan).met is None
