"""Compare the words that a graph puts at masks with those of PyTorch, or of a graph that was compared with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from export.proof.parity import MASKS_GATES, parity_record
from export.reference import TextReference
from export.samples import SENTENCES
from runtime.bundle import ParityRecord
from runtime.bundle.precisions import PRECISIONS
from runtime.engines import Session
from runtime.text import Tokenizer
from runtime.text.packing import Row, pack_masks, plan_packed

__all__ = ["TOP", "Answers", "MaskedCases", "fill_mask_parity", "masked_cases", "pytorch_answers", "session_answers"]

# Token ids of a text, positions of its masks → float32 (masks, vocabulary): logits that are right.
Answers = Callable[[list[int], list[int]], NDArray[np.float32]]

_LENGTHS = (3, 4, 5, 17, 31, 33, 64, 127, 129, 250, 512)
_MOST_MASKS = 5
# [CLS] and [SEP], which are never masked.
_SMALLEST = 2
_TOKEN_BUDGET = 512
# The best words of which the order is compared; words whose scores are as close as this may change places.
TOP = 5
_TIE = 1e-6


@dataclass(frozen=True)
class MaskedCases:
    """Texts with masks, and the right answers.

    Attributes:
        reference: whose answers, in words.
        sentences: how many of them are sentences; the others are random.
        rows: token ids of each text; masks are the positions of its masks.
        logits: float32 (masks, vocabulary), each text alone.
        longest: most tokens that the model reads.
        pad_token_id: fills rows.
    """

    reference: str
    sentences: int
    rows: list[list[int]]
    masks: list[list[int]]
    logits: NDArray[np.float32]
    longest: int
    pad_token_id: int

    @property
    def description(self) -> str:
        """What is compared, in words."""
        lengths = [len(row) for row in self.rows]
        return (
            f"{len(self.logits)} masks in {self.sentences} sentences and {len(self.rows) - self.sentences} random "
            f"texts of {min(lengths)} to {max(lengths)} tokens"
        )


def pytorch_answers(reference: TextReference) -> Answers:
    """The reference's answers (transformers' `BertForMaskedLM`)."""

    def answer(row: list[int], masks: list[int]) -> NDArray[np.float32]:
        ids = torch.tensor([row])
        logits: NDArray[np.float32] = reference.logits(ids, torch.ones_like(ids))[0, masks].numpy()
        return logits

    return answer


def session_answers(session: Session, tokenizer: Tokenizer) -> Answers:
    """The answers of a graph that is known to be right."""

    def answer(row: list[int], masks: list[int]) -> NDArray[np.float32]:
        batch = pack_masks([Row(len(row), (0,))], [row], [masks], tokenizer.pad_token_id)
        (found,) = session.run(["logits"], batch.inputs)
        return found[batch.row, batch.place]

    return answer


def masked_cases(answer: Answers, reference: str, tokenizer: Tokenizer, vocab_size: int, seed: int = 0) -> MaskedCases:
    """Mask words of sentences and of random texts, and let a reference fill them.

    Args:
        answer: the reference.
        reference: its name.
        tokenizer: the bundle's.
        vocab_size: random ids are below it.
        seed: of the random ids and of what is masked.
    """
    generator = np.random.default_rng(seed)
    longest = tokenizer.max_length
    rows = [row for row in tokenizer.encode(SENTENCES) if len(row) > _SMALLEST]
    sentences = len(rows)
    lengths = [length for length in _LENGTHS if length <= longest]
    rows += [generator.integers(5, vocab_size, length).tolist() for length in lengths]
    masks, logits, mask = [], [], tokenizer.required_mask()
    for row in rows:
        count = 1 + generator.integers(0, _MOST_MASKS)
        masks.append(sorted((1 + generator.permutation(len(row) - _SMALLEST)[:count]).tolist()))
        for position in masks[-1]:
            row[position] = mask
        logits.append(answer(row, masks[-1]))
    return MaskedCases(reference, sentences, rows, masks, np.concatenate(logits), longest, tokenizer.pad_token_id)


def fill_mask_parity(session: Session, provider: str, precision: str, cases: MaskedCases) -> ParityRecord:
    """Compare a graph that fills masks with the right answers, texts side by side in rows.

    Args:
        session: the opened graph.
        provider: what runs it.
        precision: of the artifact; picks the gates.
        cases: see `masked_cases`.

    Returns:
        Figures: max_abs_score (largest difference of a word's score), order_changed (masks of which the five best words
        are others or in another order; words whose scores differ by less than 1e-6 may change places),
        top_word_agreement (share of masks with the same best word), min_cosine_alone (smallest cosine between a
        mask's logits, less their mean, in company and alone on this engine).
    """
    together = _run(session, cases, range(len(cases.rows)))
    alone = np.concatenate([_run(session, cases, [index]) for index in range(len(cases.rows))])
    found, expected = _softmax(together), _softmax(cases.logits)
    figures = {
        "max_abs_score": float(np.abs(found - expected).max()),
        "order_changed": float(sum(map(_order_changed, found, expected))),
        "top_word_agreement": float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1))),
        "min_cosine_alone": _min_cosine(together, alone),
    }
    gates = MASKS_GATES[PRECISIONS[precision].rounds]
    return parity_record(provider, cases.reference, cases.description, figures, gates)


def _run(session: Session, cases: MaskedCases, texts: Sequence[int]) -> NDArray[np.float32]:
    """Logits of the masks of some texts, in order."""
    rows, masks = ([each[text] for text in texts] for each in (cases.rows, cases.masks))
    firsts = np.cumsum([0, *map(len, masks)])
    logits = np.empty((firsts[-1], cases.logits.shape[1]), np.float32)
    for batch in plan_packed([len(row) for row in rows], _TOKEN_BUDGET, cases.longest):
        laid_out = pack_masks(batch, rows, masks, cases.pad_token_id)
        (found,) = session.run(["logits"], laid_out.inputs)
        logits[firsts[laid_out.texts] + laid_out.nth] = found[laid_out.row, laid_out.place]
    return logits


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _order_changed(found: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
    """Whether the best words, in the order found, are not the right ones in descending order."""
    best = expected[np.argsort(-found, kind="stable")[:TOP]]
    # Each is as good for the reference as the one that it has in this place. NaN changes the order, too.
    return not np.all(np.abs(best - -np.sort(-expected)[:TOP]) <= _TIE)


def _min_cosine(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    left, right = (each.astype(np.float64) - each.mean(axis=1, keepdims=True) for each in (found, expected))
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(np.min((left * right).sum(axis=1) / norms))
