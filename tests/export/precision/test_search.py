"""The search among recipes: cheapest first, every engine must hold, and what was tried is said."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from export.errors import GateError
from export.graphs import GraphInfo
from export.precision import Lowering
from export.precision.search import Candidate, Setting, search
from export.progress import Steps
from export.proof import Judge, working_engines
from runtime.bundle import FidelityRecord
from runtime.engines import PROVIDERS, Provider
from runtime.errors import ProviderError

# Recipe → engine → mean cosine; agreement is always perfect.
COSINES = {
    "cheap": {"cpu": 0.995, "openvino": 0.98},
    "dearer": {"cpu": 0.9992, "openvino": 0.992},
    "dearest": {"cpu": 0.9999, "openvino": 0.9998},
    "broken": {"cpu": float("nan"), "openvino": float("nan")},
}


def _search(tmp_path: Path, names: list[str], lowering: Lowering):
    """Run a search in which a recipe's file holds its name, which is what the session of the stub engines is."""
    written: list[str] = []

    def candidate(name: str) -> Candidate:
        def write(target: Path) -> GraphInfo:
            written.append(name)
            target.write_text(name)
            return GraphInfo(18, {}, (), ())

        return Candidate(name, {"name": name}, write, ("cpu", "openvino"))

    class StubJudge(Judge):
        def record(self, engine, model, precision, gates, computed=None):
            figures = {"mean_cosine": COSINES[model.read_text()][engine.name], "min_cosine": 0.9}
            figures["neighbour_agreement"] = 1.0
            kept = {name: bound for name, bound in gates.items() if name in figures}
            return FidelityRecord(engine.name, precision, "here", 10, "digest", figures, kept, 1.0)

    judge = StubJudge(lambda session: {}, lambda session: 1.0, 10, "digest", (PROVIDERS["cpu"], PROVIDERS["openvino"]))
    steps = Steps(Console(quiet=True))
    target = tmp_path / "model.onnx"
    setting = Setting("text", judge, lowering, steps)
    found = search([[partial(candidate, name) for name in names]], target, "int8", setting)
    return found, written


def test_the_first_that_holds_on_every_engine_is_taken(tmp_path):
    (chosen, _, recipe, records), written = _search(tmp_path, ["cheap", "dearer", "dearest"], Lowering(("int8",), "99"))
    assert chosen.name == "dearer"
    assert written == ["cheap", "dearer"]
    assert [(trial.recipe, trial.accepted) for trial in recipe.trials] == [
        *(("cheap", False),) * 2,
        *(("dearer", True),) * 2,
    ]
    assert {record.provider for record in records} == {"cpu", "openvino"}
    assert records[0].gates["mean_cosine"] == 0.99


def test_the_higher_tier_goes_further(tmp_path):
    (chosen, _, recipe, _), _ = _search(tmp_path, ["cheap", "dearer", "dearest"], Lowering(("int8",), "99.9"))
    assert chosen.name == "dearest"
    assert recipe.tier == "99.9"


def test_when_nothing_holds_the_error_lists_what_was_tried(tmp_path):
    with pytest.raises(GateError) as error:
        _search(tmp_path, ["cheap", "dearer"], Lowering(("int8",), "99.9"))
    message = str(error.value)
    assert "No int8 recipe for the text encoder holds tier 99.9 (mean_cosine ≥ 0.999" in message
    assert "cheap on openvino: mean cosine 0.98000" in message
    assert "dearer on cpu: mean cosine 0.99920" in message
    assert "--tier 99" in message


def test_nan_never_holds(tmp_path):
    (chosen, _, _, _), _ = _search(tmp_path, ["broken", "dearest"], Lowering(("int8",), "99"))
    assert chosen.name == "dearest"


def test_random_weights_are_reported_not_gated(tmp_path):
    (chosen, _, _, records), _ = _search(tmp_path, ["cheap", "dearest"], Lowering(("int8",), "99.9", enforced=False))
    assert chosen.name == "cheap"
    assert records[0].gates == {}


def _judge(*names: str) -> Judge:
    return Judge(lambda session: {}, lambda session: 1.0, 1, "digest", tuple(PROVIDERS[name] for name in names))


def test_graphs_for_engines_that_are_not_here_get_one_that_stands_in():
    def names(judge: Judge, *providers: str) -> list[str]:
        return [engine.name for engine in judge.engines_for(providers)]

    both = _judge("cpu", "openvino")
    assert names(both, "openvino", "cuda") == ["openvino"]
    assert names(both, "cuda", "tensorrt") == ["cpu"]
    assert names(_judge("openvino"), "tensorrt") == ["openvino"], "never an engine that was not asked for"
    assert names(_judge("cuda"), "cpu") == []


def test_an_engine_that_is_installed_but_cannot_run_does_not_measure(tmp_path, monkeypatch):
    """onnxruntime-gpu without a driver looks usable until it opens a graph."""

    def fails(model, options):
        raise ProviderError("no driver")

    opened = []
    table = {
        "cuda": Provider("cuda", "gpu", "", lambda: None, fails, bf16_missing=lambda: None, processor=lambda: "GPU"),
        "cpu": Provider(
            "cpu", "cpu", "", lambda: None, lambda *given: opened.append(given), bf16_missing=lambda: "", processor=str
        ),
    }
    monkeypatch.setattr("export.proof.judge.PROVIDERS", table)
    assert [engine.name for engine in working_engines(tmp_path / "model.onnx", ["cuda", "cpu"])] == ["cpu"]
    assert len(opened) == 1
