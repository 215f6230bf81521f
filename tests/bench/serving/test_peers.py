"""Other servers, played by the small one: what is compared, and what is said of one that is not there or wrong."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.serving.load.plan import Request
from bench.serving.peers.entries import PEERS, Peer, Served
from bench.serving.scenarios import SCENARIOS
from bench.serving.scenarios import peers as scenario
from bench.serving.setting import Setting
from tests.bench.serving.conftest import SMALL
from tests.bench.serving.test_scenarios import figure


def played(*options: str, environment: str = "here") -> Peer:
    def command(_: Path, served: Served, port: int) -> Sequence[str]:
        return [sys.executable, SMALL, "serve", str(served.bundle), "--port", str(port), *options]

    def request(text: str) -> Request:
        return Request("/embed", json.dumps({"inputs": text}).encode())

    return Peer(f"played {' '.join(options)}", environment, "", command, "/ready", request)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "environments" / "here" / "bin").mkdir(parents=True)
    (tmp_path / "environments" / "here" / "bin" / "python").touch()
    monkeypatch.setenv("CXR_SERVERS", str(tmp_path / "environments"))
    monkeypatch.setattr(scenario, "_CONNECTIONS", (1, 3))
    table = {"fastapi": played("--wait", "0.03"), "gone": played(environment="nowhere"), "wrong": played("--swap")}
    monkeypatch.setattr(scenario, "PEERS", table)


@pytest.mark.slow
def test_a_slow_peer_is_slower_at_its_own_p99(setting: Callable[..., Setting], few: None) -> None:
    result = SCENARIOS["peers"].run(setting())
    slow = figure(result, "× played --wait")
    assert slow.value > 1.5
    assert slow.met
    assert "0 of " in slow.note
    gone = figure(result, "played")
    assert math.isnan(gone.value)
    assert "make servers" in gone.note
    wrong = figure(result, "× played --swap").note
    assert " 0 of " not in wrong
    assert figure(result, "wrong answers").value == 0, "those of this server alone"
    assert {point["connections"] for point in result.samples["fastapi"]} == {1, 3}
    assert len(result.samples["this server"]) == 4


def test_every_environment_of_the_table_is_set_up_by_make() -> None:
    lines = (Path(scenario.__file__).parents[2] / "servers-requirements.txt").read_text().splitlines()
    assert {line.split()[0] for line in lines if not line.startswith("#")} == {
        peer.environment for peer in PEERS.values()
    }
