"""MLPerf LoadGen drives the public runtime: what it reports, what it is told, and what ends badly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import PeerError
from bench.loadgen import bout as bout_module
from bench.loadgen import worker
from bench.loadgen.bout import Bout
from bench.loadgen.logs import read_answers, read_detail
from bench.loadgen.scenarios import SCENARIOS, Asked, Pace, loadgen_settings
from bench.loadgen.spec import Spec
from bench.loadgen.systems import SYSTEMS
from tests.conftest import System

pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed: pip install 'cxr-engine[bench]'")

SECONDS = 0.3
# MultiStream asks for eight, beginning at any sample; 20 is no multiple of it.
SAMPLES, JUDGED, BULK, WAITING = 24, 20, 16, 4


@pytest.fixture(scope="module", params=tuple(SYSTEMS))
def prepared(request: pytest.FixtureRequest, tiny: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bout]:
    """A system of the tiny bundle with a small library, in fp32."""
    small = replace(SYSTEMS[request.param], samples=SAMPLES, judged=JUDGED, bulk=BULK, waiting=WAITING, warm=8)
    spec = Spec(
        bundle=str(tiny.bundle),
        contestant="engine-cpu-fp32",
        provider="cpu",
        precision="fp32",
        system=request.param,
        runs=[],
        threads=1,
        official=False,
        seconds=SECONDS,
        target_qps=None,
        bound_seconds=5.0,
        seed=3,
        logs=str(tmp_path_factory.mktemp("logs")),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "SYSTEMS", {request.param: small})
        yield worker.bout(spec)


@pytest.fixture
def made_up(tmp_path: Path) -> Bout:
    """A system without an engine: sample n is an embedding of its own."""
    return Bout(
        name="text",
        system=replace(SYSTEMS["text"], bulk=BULK, waiting=WAITING, warm=4),
        contestant="engine-cpu-fp32",
        precision="fp32",
        encode=embed,
        library=list(range(SAMPLES)),
        expected=embed,
        random_weights=True,
        asked=Asked(False, SECONDS, 0.05, 0, SAMPLES, JUDGED),
        logs=tmp_path,
    )


def embed(numbers: Any) -> Any:
    return np.eye(SAMPLES, dtype=np.float32)[list(numbers)]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_performance_is_what_loadgen_measured_of_the_public_encode(prepared: Bout, scenario: str) -> None:
    calls: list[int] = []
    numbers = {id(sample): number for number, sample in enumerate(prepared.library)}

    def encode(samples: Any) -> Any:
        assert len({numbers[id(sample)] for sample in samples}) == len(samples), "a sample twice in one call"
        calls.append(len(samples))
        return prepared.encode(samples)

    bout = replace(prepared, encode=encode)
    bout._pace = bout_module.measure_pace(prepared.encode, prepared.library, 8)
    found = bout.run(scenario, "performance", 30.0)
    assert (found.scenario, found.mode, found.metric) == (scenario, "performance", SCENARIOS[scenario].metric)
    assert len(found.latencies) == found.settings["queries"]
    assert all(0 < each < 60 for each in found.latencies)
    ordered = sorted(found.latencies)
    if scenario == "SingleStream":
        assert set(calls) == {1}
        assert found.value == pytest.approx(ordered[int(len(ordered) * 0.9)])
    elif scenario == "MultiStream":
        # The library's end is followed by its beginning, so eight are always different.
        assert set(calls) == {8}
        assert found.value == pytest.approx(ordered[int(len(ordered) * 0.99)])
    elif scenario == "Offline":
        assert max(calls) == min(BULK, found.settings["samples_a_query"])
        assert found.settings["queries"] == 1
        assert found.value == pytest.approx(found.settings["samples_a_query"] / ordered[0], rel=1e-4)
    else:
        assert max(calls) <= WAITING
        assert found.settings["bound_seconds"] == 5.0
        assert found.settings["target_qps"] == 30
        assert 1 < found.value < 100
    assert found.valid or found.reason, "LoadGen says why"
    assert found.passed is None
    assert not found.official


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_accuracy_compares_every_answer_with_the_fp32_graph(prepared: Bout, scenario: str) -> None:
    found = prepared.run(scenario, "accuracy")
    assert found.passed is True
    assert found.gate == "largest difference ≤ 1e-05"
    assert found.fidelity is not None
    assert found.fidelity.max_abs <= 1e-5
    assert found.settings["samples"] == JUDGED
    assert found.valid is None
    indices, embeddings = read_answers(prepared.logs / f"{prepared.name}-{scenario}-accuracy")
    assert set(indices) == set(range(JUDGED))
    expected = prepared.encode([prepared.library[index] for index in indices])
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_one_planted_wrong_embedding_fails_the_accuracy(prepared: Bout) -> None:
    victim = prepared.library[7]

    def encode(samples: Any) -> Any:
        embeddings = np.array(prepared.encode(samples))
        for number, sample in enumerate(samples):
            if sample is victim:
                embeddings[number] = -embeddings[number]
        return embeddings

    found = replace(prepared, encode=encode).run("Offline", "accuracy")
    assert found.passed is False
    assert found.fidelity is not None
    assert found.fidelity.min_cosine == pytest.approx(-1)
    assert found.fidelity.mean_cosine == pytest.approx(1 - 2 / JUDGED)


@pytest.mark.parametrize("mode", ["performance", "accuracy"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_engine_that_raises_in_the_middle_ends_with_its_message(made_up: Bout, scenario: str, mode: str) -> None:
    answered = 0

    def encode(samples: Any) -> Any:
        nonlocal answered
        answered += len(samples)
        if answered > 40 or (mode == "accuracy" and answered > JUDGED // 2):
            raise MemoryError(f"no room for {len(samples)} more")
        time.sleep(0.0005)
        return embed(samples)

    made_up.encode = encode
    made_up._pace = Pace(0.001, 0.002, 2000)
    started = time.monotonic()
    with pytest.raises(PeerError, match=r"^MemoryError: no room for \d+ more$"):
        made_up.run(scenario, mode, 500.0)
    assert time.monotonic() - started < 15


def test_answers_of_a_wrong_shape_are_an_error(made_up: Bout) -> None:
    made_up._pace = Pace(0.001, 0.002, 2000)
    made_up.encode = lambda samples: embed(samples)[1:]
    with pytest.raises(PeerError, match=r"encode gives shape \(7, 24\) for 8 samples, \(8, D\) is due"):
        made_up.run("MultiStream", "performance")


def test_a_bound_that_cannot_be_held_is_invalid_with_loadgens_reason(made_up: Bout) -> None:
    def slow(samples: Any) -> Any:
        time.sleep(0.06)
        return embed(samples)

    made_up._pace = Pace(0.06, 0.06, 200)
    made_up.encode = slow
    found = made_up.run("Server", "performance", 40.0)
    assert found.valid is False
    assert "Reduce target QPS to improve latency." in found.reason
    assert found.settings["late_queries"] == found.settings["queries"]
    assert found.settings["bound_held"] == 0
    assert found.settings["target_qps"] == 40.0
    assert min(found.latencies) > 0.05


@pytest.mark.slow
def test_the_rate_is_lowered_until_the_bound_is_held(made_up: Bout) -> None:
    """The first rate is twice what one sample a call of 60 ms allows."""

    def slow(samples: Any) -> Any:
        time.sleep(0.06 * len(samples))
        return embed(samples)

    made_up.encode = slow
    made_up._pace = Pace(0.06, 0.48, 64.0)
    made_up.system = replace(made_up.system, waiting=1)
    made_up.asked = replace(made_up.asked, seconds=0.8, bound_seconds=0.35)
    found = made_up.run("Server", "performance")
    tries = found.settings["tries"]
    assert tries > 1
    assert found.settings["target_qps"] == pytest.approx(32 * 0.6 ** (tries - 1))
    first = read_detail(made_up.logs / "text-Server-performance-1")
    assert first.values["result_perf_constraints_met"] is False
    assert found.settings["bound_held"] == 1 or tries == 5


def test_no_other_rate_is_tried_where_one_sample_takes_longer_than_the_bound(made_up: Bout) -> None:
    def slow(samples: Any) -> Any:
        time.sleep(0.06)
        return embed(samples)

    made_up.encode = slow
    made_up._pace = Pace(0.06, 0.06, 60.0)
    found = made_up.run("Server", "performance")
    assert found.settings["tries"] == 1
    assert found.settings["bound_held"] == 0


def test_offline_is_repeated_with_a_longer_query_where_it_was_over_too_soon(made_up: Bout) -> None:
    def steady(samples: Any) -> Any:
        time.sleep(0.005 * len(samples))
        return embed(samples)

    made_up.encode = steady
    made_up._pace = Pace(0.005, 0.04, 50.0)
    found = made_up.run("Offline", "performance")
    assert found.settings["tries"] in (2, 3)
    first = read_detail(made_up.logs / "text-Offline-performance-1")
    assert not first.valid
    assert "Increase expected QPS" in first.reason
    assert found.valid, found.reason
    assert found.latencies[0] >= SECONDS


def test_official_runs_keep_the_rules(made_up: Bout) -> None:
    asked = replace(made_up.asked, official=True, samples=512, judged=512, bound_seconds=0.13)
    pace = Pace(0.01, 0.04, 200.0)
    made = {name: loadgen_settings(name, "performance", asked, pace, 80.0) for name in SCENARIOS}
    assert {each.min_duration_ms for each in made.values()} == {600_000}
    # mlperf.conf of LoadGen 6.0.
    assert {each.schedule_rng_seed for each in made.values()} == {16159082839903944936}
    assert made["SingleStream"].single_stream_target_latency_percentile == pytest.approx(0.9)
    assert made["MultiStream"].multi_stream_target_latency_percentile == pytest.approx(0.99)
    assert made["MultiStream"].multi_stream_samples_per_query == 8
    assert made["MultiStream"].min_query_count == 662
    assert made["Offline"].min_query_count == 512
    assert made["Server"].server_target_qps == 80
    assert made["Server"].server_target_latency_ns == 130_000_000
    assert made["Server"].server_target_latency_percentile == pytest.approx(0.99)
    assert made["Server"].server_max_async_queries == 0, "the rules know no such bound"


def test_logs_without_a_result_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="LoadGen left no log"):
        read_detail(tmp_path)
    (tmp_path / "mlperf_log_detail.txt").write_text(
        ':::MLLOG {"key": "error_runtime", "value": "It broke.", "metadata": {"is_error": true}}\n'
    )
    with pytest.raises(PeerError, match=r"no result: It broke\."):
        read_detail(tmp_path)
    (tmp_path / "mlperf_log_accuracy.json").write_text("[\n]\n")
    with pytest.raises(PeerError, match="no answers"):
        read_answers(tmp_path)
