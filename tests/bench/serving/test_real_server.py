"""The scenarios that need this project's own server: faults under load, requests of all kinds, the whole command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.serving.scenarios import SCENARIOS
from bench.serving.server_process import PROGRAM
from bench.serving.setting import Setting
from tests.bench.serving.test_scenarios import figure
from tests.conftest import System, tiny_config, tiny_family

pytestmark = pytest.mark.slow


@pytest.fixture
def real(setting: Callable[..., Setting]) -> Callable[..., Setting]:
    return lambda **fields: setting(**{"program": PROGRAM, "rounds": 1, "requests": 120, "texts": 16, **fields})


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny system with other weights."""
    from export.build import export_bundle
    from export.checkpoints.random_checkpoint import write_random_checkpoint

    folder = tmp_path_factory.mktemp("another")
    checkpoint = write_random_checkpoint(folder / "checkpoint", tiny_family(), 8, tiny_config())
    export_bundle(tiny_family(), str(checkpoint), folder / "bundle")
    return folder / "bundle"


@pytest.mark.parametrize("name", ["sigterm", "disconnects", "exceptions"])
def test_nobody_loses_an_answer_or_gets_anothers(real, name: str) -> None:
    result = SCENARIOS[name].run(real())
    assert [each.what for each in result.figures if each.met is False] == []
    assert not figure(result, "wrong answers").note.startswith("of 0 ")


def test_marked_texts_alone_are_answered_with_500(real) -> None:
    result = SCENARIOS["exceptions"].run(real(seconds=1.0))
    assert figure(result, "requests the engine raises for").value > 0
    assert "'500'" in figure(result, "requests the engine raises for").note


def test_a_reload_is_seen_and_mixes_nothing(real, another: Path) -> None:
    result = SCENARIOS["reload"].run(real(second=another, rounds=2))
    assert [each.what for each in result.figures if each.met is False] == []
    assert figure(result, "reloads").value == 2


def test_without_a_second_bundle_the_reload_is_skipped(real) -> None:
    assert "--second" in SCENARIOS["reload"].run(real()).reason


def test_all_kinds_of_requests_are_compared(real) -> None:
    result = SCENARIOS["soak"].run(real())
    assert figure(result, "wrong answers").met
    assert figure(result, "not answered").value == 0
    for kind in ("text", "fill-mask", "image", "similarity", "classify", "ground"):
        assert f"{kind} " in figure(result, "requests").note


def test_the_command_writes_what_it_prints(tiny: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--provider", "cpu", "--precision", "fp32", "--threads", "1", "--seconds", "0.6", "--rounds", "1"]
    options += ["--texts", "16", "--scenarios", "throughput,floor", "--out", str(tmp_path / "out")]
    status = main(["serve", str(tiny.bundle), *options])
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "serve.json").read_text())
    assert [each["scenario"] for each in found["results"]] == ["throughput", "floor"]
    assert "share of engine.text.encode" in printed
    assert found["settings"]["provider"] == "cpu"
    assert found["command"].startswith("python -m bench serve BUNDLE --provider cpu")
    missed = found["results"][0]["figures"][0]["value"] < 0.9
    assert status == int(missed)
