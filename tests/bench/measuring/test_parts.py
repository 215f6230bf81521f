"""How much of a large case each contestant computes."""

from __future__ import annotations

import math

from bench.measuring.parts import plan_parts

PARTS = {64: 1 / 16, 128: 1 / 8, 256: 1 / 4, 512: 1 / 2, 1024: 1.0}
WHOLE = {"reference": 160.0, "torch": 64.0, "ours": 16.0, "theirs": 20.0}


def cost(chosen: dict[str, int], rounds: int) -> float:
    return (rounds + 1) * sum(WHOLE[name] * PARTS[size] for name, size in chosen.items())


def test_without_a_bound_all_compute_all() -> None:
    assert set(plan_parts(WHOLE, PARTS, ["ours"], 3, math.inf).values()) == {1024}


def test_without_time_all_compute_the_least() -> None:
    assert set(plan_parts(WHOLE, PARTS, ["ours", "theirs"], 3, 0.0).values()) == {64}


def test_who_leads_computes_all_before_others_compute_more() -> None:
    # All of both takes 4 × 36 s, the least of the others 4 × 14 s.
    assert plan_parts(WHOLE, PARTS, ["ours", "theirs"], 3, 200.0) == {
        "reference": 64, "torch": 64, "ours": 1024, "theirs": 1024,
    }  # fmt: skip
    less = plan_parts(WHOLE, PARTS, ["ours", "theirs"], 3, 199.0)
    assert less["ours"] == less["theirs"] == 512, "the same of either, so that the ratio is of the same work"


def test_the_rest_goes_to_those_who_take_the_least_time() -> None:
    found = plan_parts(WHOLE, PARTS, ["ours", "theirs"], 3, 300.0)
    assert found["torch"] == 256, "of 100 s 4 × 4 s and 4 × 8 s"
    assert found["reference"] == 128, "and 4 × 10 s of the rest"
    for seconds in range(100, 1000, 37):
        for rounds in (1, 3, 5):
            chosen = plan_parts(WHOLE, PARTS, ["ours", "theirs"], rounds, float(seconds))
            assert cost(chosen, rounds) <= max(seconds, cost(dict.fromkeys(WHOLE, 64), rounds))
