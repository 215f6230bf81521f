"""The table of scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bench.serving.result import Result
from bench.serving.scenarios import endurance, faults, load, peers, speed
from bench.serving.setting import Setting

__all__ = ["SCENARIOS", "Scenario"]


@dataclass(frozen=True)
class Scenario:
    """A scenario: what runs it, what it is in a line, and which parts a bundle must have."""

    run: Callable[[Setting], Result]
    summary: str
    parts: tuple[str, ...] = ("text",)


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "throughput": Scenario(speed.throughput, "64 connections with a text each, beside engine.text.encode"),
        "latency": Scenario(speed.latency, "one idle client, beside a call in process"),
        "poisson": Scenario(load.poisson, "arrivals at random at 70 % of capacity"),
        "overload": Scenario(load.overload, "three times the capacity"),
        "bulk-and-query": Scenario(load.bulk_and_query, "requests of 1,000 texts beside single queries"),
        "films": Scenario(endurance.films, "JPEG and DICOM as bodies, beside engine.image.encode", ("image",)),
        "soak": Scenario(endurance.soak, "many requests of all kinds, and the memory", ()),
        "sigterm": Scenario(faults.termination, "told to stop under load"),
        "reload": Scenario(faults.reload, "told to replace its bundle under load; needs --second"),
        "disconnects": Scenario(faults.disconnects, "three clients of ten leave before their answer"),
        "exceptions": Scenario(faults.exceptions, "the engine raises for a few texts"),
        "peers": Scenario(peers.peers, "other servers with the same graph, throughput at equal p99"),
        "floor": Scenario(endurance.floor, "the HTTP layer alone: /health", ()),
    }
)
