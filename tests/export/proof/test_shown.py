"""What tables show of figures, and which of several misses is the least."""

from __future__ import annotations

import math

import pytest

from export.proof.shown import SHOWN, bounds, cells, columns, headings, in_words, nearest, shortfall
from runtime.bundle.artifacts import Trial

GATES = {"mean_cosine": 0.99, "neighbour_agreement": 0.95}


def trial(recipe: str, provider: str, mean_cosine: float, agreement: float = 1.0) -> Trial:
    return Trial(recipe, provider, {"mean_cosine": mean_cosine, "neighbour_agreement": agreement}, 1.0, False, "")


def test_a_miss_is_measured_by_the_room_that_its_gate_leaves():
    assert shortfall({"mean_cosine": 0.995, "neighbour_agreement": 0.95}, GATES) == 0
    assert shortfall({"mean_cosine": 0.98, "neighbour_agreement": 0.90}, GATES) == pytest.approx(1 + 1)
    assert shortfall({"mean_cosine": 0.98}, GATES) == pytest.approx(1), "what is not measured misses nothing"
    assert shortfall({"triplets_kept": 0.5}, {"triplets_kept": 1.0}) > 1
    assert shortfall({"neighbour_regret": 0.009}, {"neighbour_regret": 0.006}) == pytest.approx(0.5)
    assert shortfall({"neighbour_regret": 0.003}, {"neighbour_regret": 0.006}) == 0
    assert shortfall({"mean_cosine": math.nan}, GATES) == math.inf
    assert shortfall({}, GATES) == math.inf


def test_a_recipe_is_as_near_as_on_its_worst_engine():
    uneven = [trial("uneven", "cpu", 1.0), trial("uneven", "openvino", 0.90)]
    even = [trial("even", "cpu", 0.97), trial("even", "openvino", 0.96)]
    found = nearest(
        [*uneven, *even, trial("broken", "cpu", math.nan), Trial("failed", "", {}, 0.0, False, "no")], GATES
    )
    assert (found.recipe, found.provider) == ("even", "openvino")
    assert nearest([Trial("failed", "", {}, 0.0, False, "no")], GATES) is None


def test_one_table_says_which_figures_are_shown():
    figures = {figure.name: 0.5 for figure in SHOWN}
    assert len(headings()) == len(cells(figures)) == len(SHOWN)
    assert cells({}) == ["–"] * len(SHOWN)
    beside = cells(figures, {"mean_cosine": 0.25})
    assert [cell for cell in beside if "(" in cell] == ["0.50000 (0.25000)"]
    assert in_words({"mean_cosine": 0.9876543}) == "mean cosine 0.98765"
    assert in_words({}) == ""
    assert bounds(GATES) == "mean_cosine ≥ 0.99, neighbour_agreement ≥ 0.95"
    assert bounds({"neighbour_regret": 0.006}) == "neighbour_regret ≤ 0.006"


def test_some_figures_are_shown_where_a_row_has_them():
    assert columns([{"mean_cosine": 1.0}, {}]) == SHOWN
    chosen = columns([{"mean_cosine": 1.0}, {"auroc_change": -0.25}])
    assert headings(chosen) == (*headings(), "AUROC")
    assert cells({}, None, chosen)[-1] == "–"
    assert cells({"auroc_change": -0.25}, {"auroc_change": -0.125}, chosen)[-1] == "-0.2500 (-0.1250)"
    assert in_words({"auroc_change": -0.25}) == "AUROC -0.2500"
