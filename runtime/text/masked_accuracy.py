"""How often the model finds a masked token: which tokens are masked, and the figure.

The paper reports mask prediction accuracy of its masked-language task (Boecking et al., ECCV 2022, table 2), in which
15 % of the tokens are chosen. Training also leaves a tenth of them as they are and replaces another by random tokens;
here all that are chosen are masked, so that every one of them has to be found.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["MaskedAccuracy", "choose_masks"]


@dataclass(frozen=True)
class MaskedAccuracy:
    """Mask prediction accuracy.

    Attributes:
        correct: masked tokens that the model puts first.
        masked: masked tokens; texts is the number of texts that they are of.
        share, one_at_a_time, seed: how tokens were masked, see `choose_masks`.
    """

    correct: int
    masked: int
    texts: int
    share: float
    one_at_a_time: bool
    seed: int

    @property
    def accuracy(self) -> float:
        """Share of the masked tokens that the model puts first, 0 to 1; NaN if nothing was masked."""
        return self.correct / self.masked if self.masked else float("nan")


def choose_masks(
    row: Sequence[int], special_ids: Collection[int], number: int, share: float, one_at_a_time: bool, seed: int
) -> list[list[int]]:
    """Which tokens of a text are masked.

    Args:
        row: token ids.
        special_ids: ids that are never masked: [CLS], [SEP] and unknown words.
        number: of the text, from 0; with the seed it decides what is masked, whatever the other texts are.
        share: of its tokens that are masked at once, rounded, at least one.
        one_at_a_time: mask every token once, alone, instead; share and seed then mean nothing.
        seed: of the choice.

    Returns:
        The ascending positions of each masked copy of the text: one copy, or one for each token; none for a text
        without such tokens.
    """
    positions = [position for position, token in enumerate(row) if token not in special_ids]
    if not positions or one_at_a_time:
        return [[position] for position in positions]
    count = max(1, round(share * len(positions)))
    chosen = np.random.default_rng([seed, number]).permutation(len(positions))[:count]
    return [sorted(positions[index] for index in chosen)]
