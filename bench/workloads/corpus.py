"""Texts to measure with, always the same for a seed: as long as reports are, or of an exact length."""

from __future__ import annotations

import itertools

import numpy as np

from export.samples import report_sentences
from runtime.text import Tokenizer

__all__ = ["masked_texts", "report_texts", "texts_of_length"]

# Lengths in tokens are log-normal, as those of reports are: mean 50, 95th percentile 100.
_MEAN_TOKENS, _SPREAD = 50.0, 0.5
# Texts of the grammar to choose from, for each that is wanted.
_CANDIDATES = 4
_SENTENCE = "There is no focal consolidation, pleural effusion or pneumothorax"
_MASKED = "There is a small [MASK] on the right"


def report_texts(count: int, seed: int, tokenizer: Tokenizer) -> list[str]:
    """Different synthetic reports whose lengths in tokens are distributed as those of real ones.

    Lengths are drawn first; each takes the text of the grammar that is nearest to it and not taken yet.

    Args:
        count: texts.
        seed: the same seed gives the same texts for the same vocabulary.
        tokenizer: whose tokens are counted.
    """
    rng = np.random.default_rng(seed)
    wanted = rng.lognormal(np.log(_MEAN_TOKENS) - _SPREAD**2 / 2, _SPREAD, count)
    # A small vocabulary spells texts out in more tokens than the model reads; those are no candidates.
    candidates: dict[str, int] = {}
    for text in itertools.islice(report_sentences.report_texts(seed), 20 * _CANDIDATES * count + 200):
        if text not in candidates:
            (row, *_), faults = tokenizer.try_encode([text])
            if not faults:
                candidates[text] = len(row)
        if len(candidates) >= _CANDIDATES * count:
            break
    texts, lengths = list(candidates), np.array(list(candidates.values()), dtype=np.float64)
    chosen = []
    for length in wanted:
        nearest = int(np.argmin(np.abs(lengths - length)))
        chosen.append(texts[nearest])
        lengths[nearest] = np.inf
    return chosen


def texts_of_length(tokens: int, count: int, tokenizer: Tokenizer) -> list[str]:
    """Different texts of exactly so many tokens: a sentence, cut or filled with digits, a token each everywhere.

    Args:
        tokens: [CLS] and [SEP] included, at least 4.
        count: texts.
        tokenizer: whose tokens are counted.
    """
    sentence = _SENTENCE
    # Room for a digit, which tells the texts from each other.
    while (found := len(tokenizer.encode([sentence])[0])) > tokens - min(count - 1, 3) and " " in sentence:
        sentence = sentence.rpartition(" ")[0]
    return _filled(sentence, tokens - found, count)


def masked_texts(tokens: int, count: int, tokenizer: Tokenizer) -> list[str]:
    """Different texts of so many tokens with one [MASK] each."""
    return _filled(_MASKED, tokens - len(tokenizer.encode([_MASKED])[0]), count)


def _filled(sentence: str, digits: int, count: int) -> list[str]:
    drawn = np.random.default_rng(0).integers(0, 10, (count, digits))
    return [" ".join([sentence, *map(str, row)]) for row in drawn.tolist()]
