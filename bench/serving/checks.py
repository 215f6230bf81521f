"""Whether an answer is the right one: as near to what the engine gives in process as its precision, and nearest to it.

Nearness alone would not find an answer that belongs to someone else where all answers resemble each other, as those of
random weights do. So an embedding has to be nearer to its own reference than to that of any other request. Every
judgement carries its control: the same answers, handed to each other's requests, have to be found wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.serving.load.outcome import Outcome
from bench.serving.load.plan import Request

__all__ = ["KINDS", "Judgement", "Kind", "Question", "judge"]

Rows = NDArray[np.float64]
# Differences of distances that rounding explains: texts of the same tokens have references so near to each other.
_ROUNDING = 2e-6
# References compared at a time.
_BLOCK = 512


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Attributes:
        read: from JSON to the numbers that are compared, (rows, numbers a row).
        exact: largest Euclidean distance of a row that rounding in fp32 explains; embeddings have unit norm.
        rounded: the same for precisions that round more, where the company in a batch moves a value over a step.
        unmistakable: whether a row also has to be nearer to its reference than to all others of the kind.
    """

    read: Callable[[Any], Any]
    exact: float = 1e-4
    rounded: float = 0.1
    unmistakable: bool = False


@dataclass(frozen=True)
class Question:
    """A request and the numbers that its answer holds, float64 (rows, numbers a row).

    There are several where any of them is right, as during a reload; then an answer is one of them as a whole.
    """

    kind: str
    request: Request
    expected: tuple[Rows, ...]


@dataclass(frozen=True)
class Judgement:
    """Answers with 200, compared.

    Attributes:
        compared: how many.
        wrong: places in the outcome of those that are not right.
        worst: largest distance of a right row from its reference.
        swapped: rows of the control: unmistakable ones, each handed to another request.
        found: of those, how many were found wrong.
        which: int64 (N,): which of its references each answer is; -1 where none was compared.
    """

    compared: int = 0
    wrong: tuple[int, ...] = ()
    worst: float = 0.0
    swapped: int = 0
    found: int = 0
    which: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def beside(self, other: Judgement) -> Judgement:
        """Both together; places of the wrong ones, and `which`, are those of two outcomes one behind the other."""
        moved = tuple(place + len(self.which) for place in other.wrong)
        return Judgement(
            self.compared + other.compared,
            self.wrong + moved,
            max(self.worst, other.worst),
            self.swapped + other.swapped,
            self.found + other.found,
            np.concatenate([self.which, other.which]),
        )


def _filled(answer: Any) -> list[list[float]]:
    """Logarithms of the targets' scores, in the order of their tokens: most words are hardly likely at all."""
    return [[math.log(word["score"]) for word in sorted(answer, key=lambda word: word["token"])]]


def _classified(answer: Any) -> list[list[float]]:
    return [[answer["labels"][label] for label in sorted(answer["labels"])]]


def _grounded(answer: Any) -> list[list[float]]:
    return [[value for row in phrase["map"] for value in row] for phrase in answer["phrases"]]


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "text": Kind(lambda answer: answer, unmistakable=True),
        "openai": Kind(lambda answer: [each["embedding"] for each in answer["data"]], unmistakable=True),
        "fill-mask": Kind(_filled, 1e-3, 0.5, unmistakable=True),
        "image": Kind(lambda answer: answer["embeddings"], unmistakable=True),
        "similarity": Kind(lambda answer: [[answer["similarity"]]]),
        "classify": Kind(_classified),
        "ground": Kind(_grounded, 1e-3, 0.5),
    }
)


@dataclass
class _Row:
    """A row of an answer, which one of its references' rows it is compared with, and how far it is from it."""

    place: int
    request: int
    row: int
    answer: Rows
    reference: Rows
    distance: float


def judge(outcome: Outcome, questions: Sequence[Question], exact: bool, kinds: Mapping[str, Kind] = KINDS) -> Judgement:
    """Compare the answers with 200.

    Args:
        outcome: of a run with bodies.
        questions: by number.
        exact: whether it was computed in fp32.
        kinds: by name.
    """
    which = np.full(len(outcome.status), -1, np.int64)
    wrong: set[int] = set()
    rows: dict[str, list[_Row]] = {}
    places = np.flatnonzero(outcome.ok).tolist()
    for place in places:
        number = int(outcome.request[place])
        question = questions[number]
        answer = _read(kinds[question.kind], outcome.bodies[place])
        which[place], reference = _nearest(answer, question.expected)
        if reference is None:
            wrong.add(place)
            continue
        for row, (mine, its) in enumerate(zip(answer, reference, strict=True)):
            distance = float(np.linalg.norm(mine - its))
            rows.setdefault(question.kind, []).append(_Row(place, number, row, mine, its, distance))
    worst, swapped, found = 0.0, 0, 0
    for name, mine in rows.items():
        kind = kinds[name]
        bound = kind.exact if exact else kind.rounded
        bad = np.array([row.distance > bound for row in mine])
        if kind.unmistakable:
            bad |= _mistaken(mine)
            control = _swapped(mine)
            swapped += len(control)
            found += int(np.sum(np.array([row.distance > bound for row in control], np.bool_) | _mistaken(control)))
        wrong.update(row.place for row, one in zip(mine, bad.tolist(), strict=True) if one)
        worst = max([worst, *(row.distance for row, one in zip(mine, bad.tolist(), strict=True) if not one)])
    return Judgement(len(places), tuple(sorted(wrong)), worst, swapped, found, which)


def _read(kind: Kind, body: bytes) -> Rows:
    """The numbers of an answer; none where it is not of the kind's form."""
    try:
        found = np.asarray(kind.read(json.loads(body)), np.float64)
    except (ValueError, TypeError, KeyError, IndexError):
        return np.empty((0, 0))
    return found if found.ndim == 2 and np.isfinite(found).all() else np.empty((0, 0))


def _nearest(answer: Rows, references: Sequence[Rows]) -> tuple[int, Rows | None]:
    """The reference that an answer is nearest to as a whole, and its number; None where none has its size."""
    fitting = [(number, each) for number, each in enumerate(references) if each.shape == answer.shape]
    if not fitting:
        return -1, None
    return min(fitting, key=lambda pair: float(np.linalg.norm(answer - pair[1])))


def _swapped(rows: Sequence[_Row]) -> list[_Row]:
    """Every row with the answer of the one before, where that was to another question."""
    turned = [
        _Row(row.place, row.request, row.row, before.answer, row.reference, 0.0)
        for before, row in zip([*rows[-1:], *rows[:-1]], rows, strict=True)
        if (before.request, before.row) != (row.request, row.row)
    ]
    for row in turned:
        row.distance = float(np.linalg.norm(row.answer - row.reference))
    return turned


def _mistaken(rows: Sequence[_Row]) -> NDArray[np.bool_]:
    """Which rows are nearer to the reference of another question than to their own; equal references do not count."""
    known: dict[tuple[int, int], Rows] = {}
    for row in rows:
        known[row.request, row.row] = row.reference
    if not rows:
        return np.zeros(0, np.bool_)
    table = np.array(list(known.values()))
    own = {key: place for place, key in enumerate(known)}
    found = np.zeros(len(rows), np.bool_)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        answers = np.array([row.answer for row in block])
        squares = (answers**2).sum(1)[:, None] + (table**2).sum(1)[None] - 2 * answers @ table.T
        squares[np.arange(len(block)), [own[row.request, row.row] for row in block]] = np.inf
        closest = np.sqrt(np.maximum(squares.min(1), 0.0))
        distances = np.array([row.distance for row in block])
        found[start : start + len(block)] = closest < distances - _ROUNDING
    return found
