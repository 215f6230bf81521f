"""What LoadGen is asked for: MLPerf's scenarios, and the settings of a run.

`official` takes durations, counts, percentiles and seeds from the mlperf.conf that LoadGen carries. Short runs keep the
percentiles and say so where LoadGen finds them too short to be valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bench.errors import PeerError

__all__ = [
    "ACCURACY",
    "MODES",
    "OFFLINE",
    "PERFORMANCE",
    "SCENARIOS",
    "SERVER",
    "Asked",
    "Pace",
    "Scenario",
    "chosen",
    "loadgen_settings",
]

PERFORMANCE, ACCURACY = "performance", "accuracy"
MODES = (PERFORMANCE, ACCURACY)
OFFLINE, SERVER = "Offline", "Server"
_SINGLE, _MULTI = "SingleStream", "MultiStream"
# A name that mlperf.conf does not know, so that the rules for all models hold.
_MODEL = "cxr"
_SAMPLES_A_QUERY = 8
_PERCENTILE = 0.99
# LoadGen prepares queries for twice the duration at the pace that it is told, and stops when they are used up.
_QUICKER = 0.5
# One Offline query has to last for the whole duration, though the pace was measured in a second.
_MORE = 1.2
# So many queries that a 99th percentile within the bound can be valid though one is late: early stopping needs 459 with
# none, 662 with one. Server runs are made longer for them where that is not much.
_ENOUGH = 700
_LONGEST = 2.0
# A Server run that is this far behind cannot be saved, and would last for as long as everything takes that waits.
_BEHIND_SECONDS = 5.0


@dataclass(frozen=True)
class Scenario:
    """One of MLPerf's.

    Attributes:
        metric: what is reported, in `unit`.
        key: its name in LoadGen's detail log, where it is in `unit` × `factor`.
        summary: for people.
    """

    metric: str
    unit: str
    key: str
    factor: float
    summary: str


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        _SINGLE: Scenario(
            "p90 latency", "s", "result_90.00_percentile_latency_ns", 1e-9, "one at a time, the next when it is done"
        ),
        _MULTI: Scenario(
            "p99 latency of 8 samples",
            "s",
            "result_99.00_percentile_per_query_latency_ns",
            1e-9,
            "eight at a time, the next when they are done",
        ),
        OFFLINE: Scenario("samples a second", "1/s", "result_samples_per_second", 1.0, "everything at once"),
        SERVER: Scenario(
            "queries a second",
            "1/s",
            "result_completed_samples_per_sec",
            1.0,
            "at random (Poisson), p99 within a bound",
        ),
    }
)


@dataclass(frozen=True)
class Asked:
    """How runs are to be.

    Attributes:
        official: the rules' durations, counts and seeds instead of `seconds`.
        seconds: of a performance run that is not official.
        bound_seconds: of the 99th percentile of Server's latencies.
        seed: of LoadGen's choices, where they are not official.
        samples: in the library.
        judged: of them, in accuracy mode.
    """

    official: bool
    seconds: float
    bound_seconds: float
    seed: int
    samples: int
    judged: int


@dataclass(frozen=True)
class Pace:
    """What LoadGen has to be told before it starts: seconds of one sample and of eight, samples a second of many."""

    one: float
    eight: float
    rate: float


def chosen(name: str, known: Mapping[str, Any], what: str) -> tuple[str, ...]:
    """The names that one on the command line stands for; "all" for all.

    Raises:
        PeerError: there is no such name; those there are are listed.
    """
    if name == "all":
        return tuple(known)
    if name not in known:
        raise PeerError(f"there is no {what} '{name}'; there are: {', '.join(known)}, all")
    return (name,)


def loadgen_settings(scenario: str, mode: str, asked: Asked, pace: Pace, target_qps: float) -> Any:
    """LoadGen's TestSettings.

    Args:
        scenario: a key of `SCENARIOS`.
        mode: of `MODES`.
        asked: how the run is to be.
        pace: of the system under test.
        target_qps: mean rate of Server's arrivals; of other scenarios ignored.
    """
    import mlperf_loadgen

    settings = mlperf_loadgen.TestSettings()
    if asked.official:
        # With 0 LoadGen reads its own mlperf.conf instead of a file.
        settings.FromConfig("", _MODEL, scenario, 0)
        # "Otherwise we use the dataset size", says mlperf.conf of libraries below 24,576 samples.
        if scenario == OFFLINE:
            settings.min_query_count = asked.samples
    else:
        settings.min_duration_ms = round(1000 * _seconds(scenario, asked, target_qps))
        settings.min_query_count = 1
        for number, name in enumerate(("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")):
            setattr(settings, name, 3 * asked.seed + number)
        if scenario == SERVER and mode == PERFORMANCE:
            settings.server_max_async_queries = max(100, round(target_qps * (asked.bound_seconds + _BEHIND_SECONDS)))
    settings.scenario = getattr(mlperf_loadgen.TestScenario, scenario)
    settings.mode = (
        mlperf_loadgen.TestMode.AccuracyOnly if mode == ACCURACY else mlperf_loadgen.TestMode.PerformanceOnly
    )
    settings.accuracy_sample_count_override = asked.judged
    settings.single_stream_expected_latency_ns = 1e9 * _QUICKER * pace.one
    settings.multi_stream_expected_latency_ns = 1e9 * _QUICKER * pace.eight
    settings.multi_stream_samples_per_query = _SAMPLES_A_QUERY
    settings.offline_expected_qps = _MORE * pace.rate
    # In accuracy mode arrivals only have to be soon over.
    settings.server_target_qps = target_qps if mode == PERFORMANCE else pace.rate
    settings.server_target_latency_ns = round(1e9 * asked.bound_seconds)
    settings.server_target_latency_percentile = _PERCENTILE
    return settings


def _seconds(scenario: str, asked: Asked, target_qps: float) -> float:
    longer = _ENOUGH / target_qps
    return longer if scenario == SERVER and asked.seconds < longer <= _LONGEST * asked.seconds else asked.seconds
