"""A vocabulary of our own, for checkpoints that stand in for real ones."""

from __future__ import annotations

import string

from export.samples import SENTENCES

__all__ = ["random_vocabulary"]


def random_vocabulary(size: int) -> list[str]:
    """A WordPiece vocabulary of our own: special tokens first (as in CXR-BERT), characters, words, unused entries.

    Args:
        size: number of tokens, at least about 600.

    Returns:
        Distinct tokens; [PAD], [UNK], [CLS], [SEP], [MASK] are 0 to 4.
    """
    characters = string.ascii_lowercase + string.digits + string.punctuation
    words = sorted({word for sentence in SENTENCES for word in sentence.lower().rstrip(".").replace(",", "").split()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    tokens += [f"##{character}" for character in string.ascii_lowercase + string.digits]
    tokens += [word for word in words if word not in tokens]
    if len(tokens) > size:
        raise ValueError(f"a vocabulary of {size} tokens is too small; {len(tokens)} are the least")
    return tokens + [f"[unused{index}]" for index in range(size - len(tokens))]
