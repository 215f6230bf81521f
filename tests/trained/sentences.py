"""Sentences to question the text model with, in wordings that training never sees: masked, paired and in threes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from tests.trained.wordings import FINDINGS, LOCATIONS, NO_FINDING, make_caption, make_impression

__all__ = ["MASKED_KINDS", "MaskedReport", "masked_reports", "sentence_pairs", "triplets"]

MASK = "[MASK]"
# What is masked in an impression: two sides and two levels are plausible, and four findings.
MASKED_KINDS = ("side", "level", "finding")
_OPPOSITE = {"left": "right", "right": "left", "upper": "lower", "lower": "upper"}


@dataclass(frozen=True)
class MaskedReport:
    """A finding, and an impression that says it again with one word masked.

    Attributes:
        text: with one [MASK].
        word: what is masked; the sentence before tells it, by another word where it is the finding.
        kind: one of `MASKED_KINDS`.
    """

    text: str
    word: str
    kind: str


def masked_reports(rounds: int, seed: int = 0) -> list[MaskedReport]:
    """Every finding in every place, with every kind of word masked, so many times: 48 · rounds reports."""
    rng = np.random.default_rng([3, seed])
    reports = []
    for _, finding, location in itertools.product(range(rounds), FINDINGS, LOCATIONS):
        side, level = location.split()
        for kind, word in zip(MASKED_KINDS, (side, level, finding), strict=True):
            caption = make_caption(rng, finding, location, held_out=True).rstrip(".")
            masked = make_impression(rng, finding, location, held_out=True).replace(word, MASK)
            reports.append(MaskedReport(f"{caption}. {masked}", word, kind))
    return reports


def sentence_pairs(rounds: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """Premise, hypothesis and what the premise says of it, as in RadNLI: 96 · rounds pairs.

    Entailment: the same again, or less of it. Contradiction: the other side, the other level, no finding, or not this
    one. Neutral, so few that they only have to be left out: a finding of a place that the premise leaves open.
    """
    rng = np.random.default_rng([4, seed])
    pairs = []
    for _, finding, location in itertools.product(range(rounds), FINDINGS, LOCATIONS):
        side, level = location.split()
        said, hypotheses = (
            (finding, location),
            [
                ("entailment", finding, location),
                ("entailment", None, location),
                ("contradiction", finding, f"{_OPPOSITE[side]} {level}"),
                ("contradiction", finding, f"{side} {_OPPOSITE[level]}"),
                ("contradiction", f"no {finding}", None),
            ],
        )
        for label, *stated in hypotheses:
            pairs.append((_caption(rng, *said), _caption(rng, *stated), label))
        pairs.append((_caption(rng, finding, None), _caption(rng, *said), "neutral"))
    return pairs


def triplets(rounds: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """A sentence, another that says the same, and one that contradicts it: 48 · rounds of them."""
    rng = np.random.default_rng([5, seed])
    found = []
    for _, finding, location in itertools.product(range(rounds), FINDINGS, LOCATIONS):
        side, level = location.split()
        for other in (
            (finding, f"{_OPPOSITE[side]} {level}"),
            (finding, f"{side} {_OPPOSITE[level]}"),
            (NO_FINDING, None),
        ):
            found.append(tuple(_caption(rng, *stated) for stated in ((finding, location), (finding, location), other)))
    return found


def _caption(rng: np.random.Generator, finding: str | None, location: str | None) -> str:
    return make_caption(rng, finding, location, held_out=True)
