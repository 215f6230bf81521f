"""The search among recipes: cheapest first, every engine must hold, and what was tried is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.errors import GateError
from export.precision import Lowering
from export.proof import Judge, working_engines
from runtime.engines import PROVIDERS, Provider
from runtime.errors import ProviderError
from tests.export.precision.trying import Trying


def _search(tmp_path: Path, names: list[str], lowering: Lowering):
    trying = Trying(tmp_path, lowering)
    return trying.run(names), trying.written


def test_the_first_that_holds_on_every_engine_is_taken(tmp_path):
    (chosen, _, recipe, records), written = _search(tmp_path, ["cheap", "dearer", "dearest"], Lowering(("int8",), "99"))
    assert chosen.name == "dearer"
    assert written == ["cheap", "dearer"]
    assert [(trial.recipe, trial.accepted) for trial in recipe.trials] == [
        *(("cheap", False),) * 2,
        *(("dearer", True),) * 2,
    ]
    assert {record.provider for record in records} == {"cpu", "openvino"}
    assert records[0].gates == {"mean_centred_cosine": 0.95, "neighbour_regret": 0.006}


def test_the_higher_tier_goes_further(tmp_path):
    (chosen, _, recipe, _), _ = _search(tmp_path, ["cheap", "dearer", "dearest"], Lowering(("int8",), "99.9"))
    assert chosen.name == "dearest"
    assert recipe.tier == "99.9"


def test_when_nothing_holds_the_error_lists_what_was_tried(tmp_path):
    with pytest.raises(GateError) as error:
        _search(tmp_path, ["cheap", "dearer"], Lowering(("int8",), "99.9"))
    message = str(error.value)
    assert (
        "No int8 recipe for the text encoder holds tier 99.9 (mean_centred_cosine ≥ 0.99, neighbour_regret ≤ 0.002"
        in message
    )
    assert "cheap on openvino: centred 0.94000" in message
    assert "dearer on cpu: centred 0.98920" in message
    assert "no bundle was written" in message
    assert "ask for less with --tier 99, or" in message
    assert "--calibration-text" in message


def test_nobody_is_told_to_lower_the_lowest_tier(tmp_path):
    with pytest.raises(GateError) as error:
        _search(tmp_path, ["cheap"], Lowering(("int8",), "99"))
    assert "--tier" not in str(error.value)
    assert "leave int8 out of --precision" in str(error.value)


def test_a_miss_says_what_came_nearest_where_it_was_worst(tmp_path):
    with pytest.raises(GateError) as error:
        _search(tmp_path, ["cheap", "dearer", "broken"], Lowering(("int8",), "99.9"))
    assert error.value.cause == "fidelity"
    assert error.value.best["mean_centred_cosine"] == 0.97
    assert error.value.required["mean_centred_cosine"] == 0.99
    assert [trial.recipe for trial in error.value.trials] == [*("cheap",) * 2, *("dearer",) * 2, *("broken",) * 2]
    assert error.value.reason.startswith("none of 3 recipes tried holds tier 99.9; dearer on openvino came nearest: ")


def test_nan_never_holds(tmp_path):
    (chosen, _, _, _), _ = _search(tmp_path, ["broken", "dearest"], Lowering(("int8",), "99"))
    assert chosen.name == "dearest"


def test_random_weights_are_reported_not_gated(tmp_path):
    (chosen, _, _, records), _ = _search(tmp_path, ["cheap", "dearest"], Lowering(("int8",), "99.9", enforced=False))
    assert chosen.name == "cheap"
    assert records[0].gates == {}


def test_what_an_engine_cannot_run_is_passed_over(tmp_path):
    (chosen, _, recipe, _), _ = _search(tmp_path, ["cannot run", "cannot be written", "dearest"], Lowering(("int8",)))
    assert chosen.name == "dearest"
    first, second, *_ = recipe.trials
    assert (first.recipe, first.figures, first.accepted) == ("cannot run", {}, False)
    assert first.verdict == "ProviderError: cpu cannot open it"
    assert second.verdict == "GraphError: no such operator"


def test_where_nothing_can_run_the_error_says_so(tmp_path):
    with pytest.raises(GateError) as error:
        _search(tmp_path, ["cannot run", "cannot be written"], Lowering(("int8",)))
    assert error.value.cause == "error"
    assert "ProviderError: cpu cannot open it" in error.value.reason
    assert error.value.best == {}


def test_a_fault_of_the_program_is_not_a_miss(tmp_path):
    with pytest.raises(KeyError):
        _search(tmp_path, ["never heard of", "dearest"], Lowering(("int8",)))


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
