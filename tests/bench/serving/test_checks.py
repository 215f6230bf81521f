"""Answers are compared with what the engine gives, so that one row in another's place is found."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bench.serving.checks import Question, judge
from bench.serving.load.outcome import Outcome, Record
from bench.serving.load.plan import Request

REQUEST = Request("/")


def embeddings(count: int, spread: float = 1.0, seed: int = 0) -> np.ndarray:
    """Rows of unit norm; with a small spread they resemble each other, as those of random weights do."""
    rng = np.random.default_rng(seed)
    rows = np.ones(32) + spread * rng.normal(size=(count, 32))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def answered(answers: list[object], requests: list[int] | None = None) -> Outcome:
    numbers = requests or list(range(len(answers)))
    return Outcome.made_of(
        [
            Record(0, number, 0.0, 0.0, 1.0, 200, -1.0, json.dumps(answer).encode())
            for number, answer in zip(numbers, answers, strict=True)
        ]
    )


def text_questions(rows: np.ndarray) -> list[Question]:
    return [Question("text", REQUEST, (row[None],)) for row in rows]


@pytest.mark.parametrize(("exact", "noise"), [(True, 1e-6), (False, 3e-4)])
def test_right_answers_are_right_and_swapped_ones_are_found(exact: bool, noise: float) -> None:
    rows = embeddings(50, spread=0.01)
    assert np.linalg.norm(rows[0] - rows[1]) < 0.1
    noisy = rows + noise * np.random.default_rng(1).normal(size=rows.shape) / 6
    found = judge(answered([[row.tolist()] for row in noisy]), text_questions(rows), exact)
    assert (found.compared, found.wrong) == (50, ())
    assert 0 < found.worst < 3 * noise
    assert (found.swapped, found.found) == (50, 50)


def test_a_single_swapped_pair_is_found_though_all_answers_resemble_each_other() -> None:
    rows = embeddings(50, spread=0.01)
    order = list(range(50))
    order[7], order[31] = 31, 7
    found = judge(answered([[rows[place].tolist()] for place in order]), text_questions(rows), exact=False)
    assert found.wrong == (7, 31)


def test_a_row_of_a_large_request_in_another_place_is_found() -> None:
    rows = embeddings(1000)
    order = list(range(1000))
    order[400], order[401] = 401, 400
    questions = [Question("text", REQUEST, (rows,))]
    assert judge(answered([rows.tolist()]), questions, False).wrong == ()
    assert judge(answered([rows[order].tolist()]), questions, False).wrong == (0,)


def test_equal_references_are_no_mistake() -> None:
    rows = np.repeat(embeddings(5), 2, axis=0)
    assert judge(answered([[row.tolist()] for row in rows]), text_questions(rows), True).wrong == ()


@pytest.mark.parametrize("body", [{"error": "x"}, [], [[1.0, 2.0]], "text", [[float("nan")] * 32]])
def test_what_is_no_answer_is_wrong(body: object) -> None:
    rows = embeddings(3)
    answers = [[rows[0].tolist()], body, [rows[2].tolist()]]
    assert judge(answered(answers), text_questions(rows), False).wrong == (1,)


def test_only_answers_with_200_are_compared() -> None:
    rows = embeddings(2)
    refused = Record(0, 1, 0.0, 0.0, 1.0, 429, 1.0, b"{}")
    right = Record(0, 0, 0.0, 0.0, 1.0, 200, -1.0, json.dumps([rows[0].tolist()]).encode())
    found = judge(Outcome.made_of([refused, right]), text_questions(rows), True)
    assert (found.compared, found.wrong, found.which.tolist()) == (1, (), [-1, 0])


def test_either_bundle_may_answer_during_a_reload_but_no_mixture_of_them() -> None:
    old, new = embeddings(6, seed=1), embeddings(6, seed=2)
    questions = [Question("text", REQUEST, (old[[a, a + 1]], new[[a, a + 1]])) for a in (0, 2, 4)]
    mixed = np.stack([old[4], new[5]])
    found = judge(answered([old[:2].tolist(), new[2:4].tolist(), mixed.tolist()]), questions, True)
    assert found.which[:2].tolist() == [0, 1]
    assert found.wrong == (2,)


def test_other_kinds_have_their_own_forms() -> None:
    words = [{"token": 9, "score": 0.2}, {"token": 4, "score": 0.5}]
    cases = {
        "fill-mask": (words, [[math.log(0.5), math.log(0.2)]]),
        "image": ({"embeddings": [[1.0, 0.0]]}, [[1.0, 0.0]]),
        "similarity": ({"similarity": 0.4}, [[0.4]]),
        "classify": ({"labels": {"b": 0.1, "a": 0.9}}, [[0.9, 0.1]]),
        "ground": ({"phrases": [{"map": [[0.1, 0.2], [0.3, 0.4]]}]}, [[0.1, 0.2, 0.3, 0.4]]),
    }
    for kind, (answer, expected) in cases.items():
        rows = np.array(expected)
        assert judge(answered([answer]), [Question(kind, REQUEST, (rows,))], True).wrong == (), kind
        assert judge(answered([answer]), [Question(kind, REQUEST, (rows + 1.0,))], False).wrong == (0,), kind


def test_judgements_add_up() -> None:
    rows = embeddings(4)
    good = judge(answered([[row.tolist()] for row in rows]), text_questions(rows), True)
    bad = judge(answered([[row.tolist()] for row in rows[::-1]]), text_questions(rows), True)
    both = good.beside(bad)
    assert (both.compared, both.wrong) == (8, (4, 5, 6, 7))
    assert (both.swapped, both.found) == (8, good.found + bad.found)
