"""The search among recipes: it ends where int8 is no faster than floating point, and when time is up."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.errors import GateError
from export.graphs import GraphInfo
from export.precision import Lowering
from export.precision.lower import artifact
from export.precision.rivals import Rival, find_rivals
from export.precision.search import Deadline
from runtime.bundle import FidelityRecord
from tests.export.precision import trying as stub
from tests.export.precision.trying import BOTH, COSINES, Trying

# Times that leave no doubt: nothing is timed again.
CLEARLY = {"cheap": 50.0, "dearer": 70.0, "dearest": 80.0}


@pytest.fixture
def floats(tmp_path: Path):
    """The fastest floating point, 100 ms on each engine."""
    for name in ("fp32", "bf16"):
        (tmp_path / name).write_text(name)
    return {
        "cpu": Rival(tmp_path / "fp32", "fp32", 100.0),
        "openvino": Rival(tmp_path / "bf16", "bf16", 100.0),
    }


def test_recipes_that_are_clearly_faster_are_not_timed_again(tmp_path, floats, monkeypatch):
    monkeypatch.setattr(stub, "MILLISECONDS", CLEARLY)
    trying = Trying(tmp_path, Lowering(("int8",), "99.9"), floats)
    chosen, *_ = trying.run(["cheap", "dearer", "dearest"])
    assert chosen.name == "dearest"
    assert trying.timed == []


def test_what_is_no_faster_than_floating_point_is_not_made_dearer(tmp_path, floats, monkeypatch):
    """The rest of its form is not even made; another form is tried, and given up as well."""
    monkeypatch.setattr(stub, "MILLISECONDS", dict.fromkeys(COSINES, 120.0))
    trying = Trying(tmp_path, Lowering(("int8",), "99.9"), floats)
    trying.again = {**dict.fromkeys(COSINES, 120.0), "fp32": 101.0, "bf16": 99.0}
    with pytest.raises(GateError) as error:
        trying.run(["cheap", "dearest"], ["dearer", "dearest"])
    assert trying.written == ["cheap", "dearer"]
    assert error.value.cause == "speed"
    slower = "not faster than fp32 on cpu (120.0 ms a batch against 101.0) and bf16 on openvino (120.0 ms a batch"
    assert f"below the tier, {slower}" in error.value.trials[0].verdict
    assert slower in str(error.value)
    assert "Floating point is as fast on this processor" in str(error.value)


def test_a_dear_recipe_that_holds_and_is_no_faster_is_not_taken(tmp_path, floats, monkeypatch):
    monkeypatch.setattr(stub, "MILLISECONDS", {"cheap": 50.0, "dearest": 120.0})
    trying = Trying(tmp_path, Lowering(("int8",)), floats)
    trying.again = {"dearest": 120.0, "fp32": 100.0, "bf16": 100.0}
    with pytest.raises(GateError) as error:
        trying.run(["cheap", "dearest"])
    assert [trial.verdict.split(",")[0] for trial in error.value.trials[2:]] == ["holds the tier"] * 2
    assert not any(trial.accepted for trial in error.value.trials)


def test_the_cheapest_recipe_is_taken_if_it_holds_whatever_its_time(tmp_path, floats, monkeypatch):
    """There is no cheaper int8; another processor may compute it faster."""
    monkeypatch.setattr(stub, "MILLISECONDS", {"dearest": 120.0})
    trying = Trying(tmp_path, Lowering(("int8",)), floats)
    trying.again = {"dearest": 120.0, "fp32": 100.0, "bf16": 100.0}
    chosen, _, recipe, _ = trying.run(["dearest", "cheap"])
    assert chosen.name == "dearest"
    assert "holds the tier, not faster than fp32 on cpu" in recipe.trials[0].verdict


def test_faster_on_one_engine_is_enough(tmp_path, floats, monkeypatch):
    monkeypatch.setattr(stub, "MILLISECONDS", dict.fromkeys(COSINES, 80.0))
    floats["openvino"] = Rival(floats["openvino"].model, "bf16", 20.0)
    trying = Trying(tmp_path, Lowering(("int8",), "99.9"), floats)
    chosen, *_ = trying.run(["cheap", "dearest"])
    assert chosen.name == "dearest"


def test_times_of_different_minutes_are_not_trusted(tmp_path, floats, monkeypatch):
    """Other work slowed the recipe down, not the rival, which was timed long before."""
    monkeypatch.setattr(stub, "MILLISECONDS", {"cheap": 300.0, "dearest": 95.0})
    trying = Trying(tmp_path, Lowering(("int8",), "99.9"), floats)
    trying.again = {"cheap": 60.0, "dearest": 95.0, "fp32": 100.0, "bf16": 100.0}
    chosen, *_ = trying.run(["cheap", "dearest"])
    assert chosen.name == "dearest"
    assert trying.timed == ["cheap", "fp32"] * 3 + ["dearest", "fp32"] * 3, "in turns"


@pytest.mark.parametrize("reason", ["another engine's graph", "a small model"])
def test_times_that_say_nothing_end_no_search(tmp_path, floats, monkeypatch, reason):
    """Of an engine that stands in for TensorRT, and of batches that take less than the overheads."""
    monkeypatch.setattr(stub, "MILLISECONDS", dict.fromkeys(COSINES, 120.0))
    providers = ("tensorrt",) if reason == "another engine's graph" else BOTH
    if reason == "a small model":
        floats = {name: Rival(rival.model, rival.precision, 3.0) for name, rival in floats.items()}
    trying = Trying(tmp_path, Lowering(("int8",), "99.9"), floats)
    chosen, *_ = trying.run(["cheap", "dearest"], providers=providers)
    assert (chosen.name, trying.timed) == ("dearest", [])


def test_the_rival_is_the_fastest_that_its_engine_is_meant_to_run(tmp_path):
    def measured(precision: str, providers, *records):
        made = [FidelityRecord(name, computed, "", 1, "", {}, {}, time) for name, computed, time in records]
        info = GraphInfo(18, {}, (), ())
        return artifact(f"text/onnx/{precision}.onnx", precision, info, providers, fidelity=tuple(made))

    found = find_rivals(
        [
            measured("fp32", BOTH, ("cpu", "fp32", 9.0), ("openvino", "fp32", 8.0), ("openvino", "bf16", 5.0)),
            measured("fp16", ("cuda", "tensorrt"), ("cpu", "fp16", 1.0)),  # stands in
        ],
        tmp_path,
    )
    fp32 = tmp_path / "text/onnx/fp32.onnx"
    assert found == {"cpu": Rival(fp32, "fp32", 9.0), "openvino": Rival(fp32, "bf16", 5.0)}


class Clock(Deadline):
    """Time for so many recipes."""

    def __init__(self, recipes: int) -> None:
        self._recipes = recipes

    def left(self) -> float:
        self._recipes -= 1
        return 60.0 * max(0, self._recipes)

    def __str__(self) -> str:
        return "some time left"


def test_the_search_ends_when_time_is_up(tmp_path):
    trying = Trying(tmp_path, Lowering(("int8",), "99.9", search_minutes=2), deadline=Clock(2))
    with pytest.raises(GateError) as error:
        trying.run(["cheap", "dearer", "dearest"])
    assert trying.written == ["cheap", "dearer"]
    assert error.value.cause == "time"
    assert "the 2 min of the search were over" in error.value.reason
    assert "dearer on openvino came nearest" in error.value.reason
    assert "--search-minutes" in str(error.value)


def test_one_recipe_is_tried_in_any_case(tmp_path):
    """The time may have gone to the search before it."""
    trying = Trying(tmp_path, Lowering(("int8",)), deadline=Clock(0))
    chosen, *_ = trying.run(["dearest"])
    assert chosen.name == "dearest"


def test_a_deadline_counts_down(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("export.precision.search.time.monotonic", lambda: now[0])
    deadline = Deadline(2.5)
    assert (deadline.left(), str(deadline)) == (150.0, "3 min left")
    now[0] += 110
    assert str(deadline) == "40 s left"
    now[0] += 100
    assert (deadline.left(), str(deadline)) == (0.0, "0 s left")
