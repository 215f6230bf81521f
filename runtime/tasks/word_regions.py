"""Words of a text and regions of an image: which words look where, and how well they agree.

Source: GLoRIA, `gloria/loss/gloria_loss.py` (`attention_fn`, `cosine_similarity`) and `gloria/models/gloria_model.py`
(`get_attn_maps`, `get_local_similarities`). Neither words nor regions are normalized there.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["AttentionRule", "attend", "local_similarity", "word_maps"]

_EPSILON = 1e-8


class AttentionRule(Protocol):
    """How words attend to regions: `runtime.bundle.parts.WordAttention`."""

    @property
    def temperature(self) -> float:
        """What a word's shares of regions are multiplied by."""

    @property
    def sharpness(self) -> float:
        """What the cosine of a word with what it sees is multiplied by."""


def attend(
    words: NDArray[np.float32], regions: NDArray[np.float32], temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Let words attend to regions: each region is shared out among the words, then each word's shares among regions.

    Args:
        words: float (W, D).
        regions: float (R, D).
        temperature: what the shares of a word are multiplied by before they become attention.

    Returns:
        What each word sees, float64 (W, D); and its attention, float64 (W, R), which adds up to 1.
    """
    places = regions.astype(np.float64)
    shares = _softmax(places @ words.astype(np.float64).T, axis=1).T
    attention = _softmax(shares * temperature, axis=1)
    return attention @ places, attention


def word_maps(embeds: NDArray[np.float32], regions: NDArray[np.float32], rule: AttentionRule) -> NDArray[np.float32]:
    """Where each word of a text looks (`get_attn_maps`): [CLS] takes part and is left out of the result.

    Args:
        embeds: float32 (2 + words, D): [CLS], the words, [SEP]; not normalized.
        regions: float32 (rows, columns, D), not normalized.
        rule: of the bundle.

    Returns:
        float32 (words, rows, columns), each of which adds up to 1.
    """
    rows, columns, size = regions.shape
    _, attention = attend(embeds[:-1], regions.reshape(-1, size), rule.temperature)
    return attention[1:].reshape(-1, rows, columns).astype(np.float32)


def local_similarity(
    embeds: NDArray[np.float32], characters: int, regions: NDArray[np.float32], rule: AttentionRule, longest: int
) -> float:
    """How well the best word agrees with what it looks at (`get_local_similarities`).

    As there, as many words are looked at as the text has characters: [SEP] after the words, then words of zeros, whose
    cosine is 0 and who take part in the sharing. Texts of `longest` characters or more, at which that fails there, have
    `longest` - 1 words here.

    Args:
        embeds: as for `word_maps`, with or without words.
        characters: of the text, less its "[".
        regions: float32 (rows, columns, D), not normalized.
        rule: of the bundle.
        longest: most tokens of a text, [CLS] and [SEP] among them.

    Returns:
        The largest cosine times the rule's sharpness.
    """
    size = regions.shape[-1]
    words = np.zeros((min(max(characters, 1), longest - 1), size), np.float32)
    there = embeds[1 : 1 + len(words)]
    words[: len(there)] = there
    seen, _ = attend(words, regions.reshape(-1, size), rule.temperature)
    products = (words * seen).sum(axis=1)
    norms = np.linalg.norm(words, axis=1) * np.linalg.norm(seen, axis=1)
    return float((products / np.maximum(norms, _EPSILON)).max() * rule.sharpness)


def _softmax(scores: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    shares: NDArray[np.float64] = weights / weights.sum(axis=axis, keepdims=True)
    return shares
