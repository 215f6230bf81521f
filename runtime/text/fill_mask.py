"""Texts with [MASK] → the words that the model would put there.

Semantics of transformers' `fill-mask` pipeline, which is what the model's hosted endpoint runs, and of
hi-ml-multimodal's `TextInferenceEngine.predict_masked_tokens`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Session, Sessions
from runtime.errors import Fault, InputError
from runtime.process import flag, items_of, shown
from runtime.process.checks import TEXTS, callback, missing, number, texts_of, whole_number
from runtime.process.forks import ForkSafeLock
from runtime.process.workers import ordered_map
from runtime.text.bulk import BulkRule, even_budget
from runtime.text.likeliest import best_of, scores_of
from runtime.text.masked_accuracy import MaskedAccuracy, choose_masks
from runtime.text.packing import MaskedBatch, Row, pack_masks, plan_packed
from runtime.text.tokenization import Tokenizer

__all__ = ["Filled", "MaskFiller", "MaskedTexts", "run_masks"]

_LOG = logging.getLogger("runtime")
# Texts whose masks are chosen and planned together.
_WINDOW = 256

Found = tuple[MaskedBatch, NDArray[np.float32]]


class Filled(TypedDict):
    """A word for a mask, as transformers' pipeline gives it.

    Attributes:
        score: probability among all tokens of the vocabulary, 0 to 1 (also where only some targets were asked about).
        token: its id.
        token_str: the token.
        sequence: the text with the token in place, as the tokenizer writes it; of texts with several masks with [CLS],
            [SEP] and the other masks.
    """

    score: float
    token: int
    token_str: str
    sequence: str


@dataclass(frozen=True)
class MaskedTexts:
    """Texts with masks, tokenized, and what is asked of them.

    Attributes:
        rows: token ids of each text.
        masks: positions of its masks in each.
        top_k: words per mask.
        chosen: intp, ids of the words that alone are asked about; None for all.
    """

    rows: list[list[int]]
    masks: list[list[int]]
    top_k: int
    chosen: NDArray[np.intp] | None


class MaskFiller:
    """The masked-language half of a text encoder."""

    def __init__(self, tokenizer: Tokenizer, open_sessions: Callable[[], Sessions], token_budget: int) -> None:
        """Put the parts together; nothing is opened yet.

        Args:
            tokenizer: the bundle's.
            open_sessions: opens the graph that fills masks, when it is first needed.
            token_budget: tokens in one batch, padding counted.

        Raises:
            BundleError: the tokenizer has no [MASK].
        """
        self._tokenizer = tokenizer
        self._mask = tokenizer.required_mask()
        self._open_sessions = open_sessions
        self._token_budget = token_budget
        self._opened: Sessions | None = None
        self._bulk = BulkRule()
        self._lock = ForkSafeLock()

    def fill_mask(
        self, texts: str | Sequence[str], top_k: int = 5, targets: str | Sequence[str] | None = None
    ) -> list[Any]:
        """See `TextEncoder.fill_mask`."""
        asked = self.read(texts, top_k, targets)
        answers: list[list[list[Filled]]] = [[[]] * len(found) for found in asked.masks]
        for batch, logits in self._compute(asked.rows, asked.masks):
            for text, nth, each in zip(batch.texts, batch.nth, logits, strict=True):
                answers[text][nth] = self.words(asked, text, nth, each)
        unwrapped = [answer[0] if len(answer) == 1 else answer for answer in answers]
        return unwrapped[0] if len(unwrapped) == 1 else unwrapped

    def read(
        self,
        texts: str | Sequence[str],
        top_k: int = 5,
        targets: str | Sequence[str] | None = None,
        on_note: Callable[[str], None] = _LOG.warning,
    ) -> MaskedTexts:
        """Tokenize what `fill_mask` is asked, and check it.

        Args:
            texts: as there, and so are top_k and targets.
            on_note: called with what is unusual about a target, which it quotes.

        Raises:
            InputError: as for `TextEncoder.fill_mask`.
        """
        listed = texts_of(texts)
        top_k = whole_number("top_k", top_k)
        chosen = None if targets is None else self._target_ids(targets, on_note)
        if chosen is not None:
            top_k = min(top_k, len(chosen))
        elif top_k > self._tokenizer.vocabulary_size:
            raise InputError(f"top_k={shown(top_k)}; the vocabulary has {self._tokenizer.vocabulary_size} tokens.")
        rows, faults = self._tokenizer.try_encode(listed, clean=False)
        masks = [self._masks(row) for row in rows]
        bad = {fault.index for fault in faults}
        faults += [
            Fault(index, shown(listed[index]), "has no [MASK]. Write [MASK] where a word is wanted")
            for index, found in enumerate(masks)
            if not found and index not in bad
        ]
        if faults:
            raise InputError.from_faults("texts", sorted(faults, key=lambda fault: fault.index), len(listed))
        return MaskedTexts(rows, masks, top_k, chosen)

    def words(self, asked: MaskedTexts, text: int, nth: int, logits: NDArray[np.float32]) -> list[Filled]:
        """The likeliest words for a mask.

        Args:
            asked: of `read`.
            text: which of its texts.
            nth: which of that text's masks.
            logits: float32 (vocabulary,) of that mask.
        """
        best = best_of(logits if asked.chosen is None else logits[asked.chosen], asked.top_k)
        ids = best if asked.chosen is None else asked.chosen[best]
        row, masks = asked.rows[text], asked.masks[text]
        return [
            self._filled(score, token, row, masks[nth], single=len(masks) == 1)
            for score, token in zip(scores_of(logits, ids).tolist(), ids.tolist(), strict=True)
        ]

    def plan(self, rows: Sequence[Sequence[int]], token_budget: int | None = None) -> Iterator[tuple[Row, ...]]:
        """Which texts are computed together; see `TextBatches.plan`."""
        budget = self._token_budget if token_budget is None else token_budget
        yield from plan_packed([len(row) for row in rows], budget, self._tokenizer.max_length)

    def lay_out(
        self, batch: Sequence[Row], rows: Sequence[Sequence[int]], masks: Sequence[Sequence[int]]
    ) -> MaskedBatch:
        """What the graph reads; see `pack_masks`."""
        return pack_masks(batch, rows, masks, self._tokenizer.pad_token_id)

    def predict_masked_tokens(self, prompts: str | Sequence[str]) -> list[list[str]]:
        """See `TextEncoder.predict_masked_tokens`."""
        rows = self._tokenizer.encode(texts_of(prompts))
        masks = [self._masks(row) for row in rows]
        answers = [[""] * len(found) for found in masks]
        with_masks = [index for index, found in enumerate(masks) if found]
        for batch, logits in self._compute([rows[index] for index in with_masks], [masks[i] for i in with_masks]):
            for text, nth, token in zip(batch.texts, batch.nth, logits.argmax(axis=1), strict=True):
                answers[with_masks[text]][nth] = self._tokenizer.token(int(token))
        return answers

    def masked_token_accuracy(
        self,
        texts: Iterable[str],
        *,
        share: float = 0.15,
        one_at_a_time: bool = False,
        seed: int = 0,
        on_fault: Callable[[Fault], None] | None = None,
    ) -> MaskedAccuracy:
        """See `TextEncoder.masked_token_accuracy`."""
        share = number("share", share, "a share of the tokens above 0 and up to 1", lambda part: 0 < part <= 1)
        one_at_a_time, on_fault = flag("one_at_a_time", one_at_a_time), callback("on_fault", on_fault)
        seed = whole_number("seed", seed, least=0)
        listed = texts_of(texts)
        rows, faults = self._tokenizer.try_encode(listed, clean=False)
        reasons = {fault.index: fault for fault in faults}
        kept: list[tuple[list[int], list[list[int]]]] = []
        for index, row in enumerate(rows):
            if index in reasons:
                continue
            reason = None
            if self._mask in row:
                reason = "has a [MASK] already; texts are expected whole"
            elif not (chosen := choose_masks(row, self._tokenizer.special_ids, index, share, one_at_a_time, seed)):
                reason = "has no token that could be masked. Leave it out"
            else:
                kept.append((row, chosen))
            if reason:
                reasons[index] = Fault(index, shown(listed[index]), reason)
        if reasons and on_fault is None:
            raise InputError.from_faults("texts", [reasons[index] for index in sorted(reasons)], len(listed))
        if on_fault is not None:
            for index in sorted(reasons):
                on_fault(reasons[index])
        correct = masked = 0
        for start in range(0, len(kept), _WINDOW):
            whole = [(row, positions) for row, sets in kept[start : start + _WINDOW] for positions in sets]
            hidden = [self._hide(row, positions) for row, positions in whole]
            for batch, logits in self._compute(hidden, [positions for _, positions in whole]):
                for text, nth, token in zip(batch.texts, batch.nth, logits.argmax(axis=1), strict=True):
                    row, positions = whole[text]
                    correct += int(token == row[positions[nth]])
                    masked += 1
        return MaskedAccuracy(correct, masked, len(kept), share, one_at_a_time, seed)

    def _masks(self, row: Sequence[int]) -> list[int]:
        return [position for position, token in enumerate(row) if token == self._mask]

    def _hide(self, row: Sequence[int], positions: Sequence[int]) -> list[int]:
        hidden = list(row)
        for position in positions:
            hidden[position] = self._mask
        return hidden

    def _target_ids(self, targets: str | Sequence[str], on_note: Callable[[str], None]) -> NDArray[np.intp]:
        """Ids of the targets, each once; of words outside the vocabulary the first piece, with a warning."""
        listed = items_of(targets, "targets", TEXTS, ordered=False)
        wrong = [
            Fault(index, repr(target), f"{missing(target)} came where a str is expected")
            for index, target in enumerate(listed)
            if not isinstance(target, str)
        ]
        if wrong:
            raise InputError.from_faults("targets", wrong, len(listed))
        ids: list[int] = []
        for target in listed:
            found = self._tokenizer.find(target)
            if found is None:
                pieces = self._tokenizer.pieces(target)
                if not pieces:
                    on_note(f"The target {target!r} is no token of the vocabulary and has none; it is left out.")
                    continue
                found = pieces[0]
                piece = self._tokenizer.token(found)
                on_note(
                    f"The target {target!r} is no token of the vocabulary; its first piece {piece!r} is taken instead."
                )
            ids.append(found)
        if not ids:
            raise InputError(f"None of the targets {listed!r} has a token; give at least one word, or no targets.")
        return np.array(sorted(set(ids)), dtype=np.intp)

    def _filled(self, score: float, token: int, row: Sequence[int], position: int, single: bool) -> Filled:
        ids = [*row[:position], token, *row[position + 1 :]]
        # As there: padding is left out, and special tokens where there is no other mask that would go with them.
        ids = [each for each in ids if each != self._tokenizer.pad_token_id]
        return {
            "score": score,
            "token": token,
            "token_str": self._tokenizer.decode([token], skip_special_tokens=False),
            "sequence": self._tokenizer.decode(ids, skip_special_tokens=single),
        }

    def _compute(self, rows: Sequence[Sequence[int]], masks: Sequence[Sequence[int]]) -> Iterator[Found]:
        """Batches with the logits of their masks, float32 (masks, vocabulary)."""
        if not rows:
            return
        sessions = self.sessions()
        lengths = [len(row) for row in rows]
        bulk = self._bulk.applies(lengths, sessions.streams, self._token_budget)
        budget = even_budget(sum(lengths), sessions.streams, self._token_budget) if bulk else None
        plans = list(self.plan(rows, budget))
        session = sessions.bulk() if bulk else sessions.single
        jobs = (self.lay_out(batch, rows, masks) for batch in plans)
        workers = sessions.streams if bulk else int(len(plans) > 1)
        pinned = bulk and sessions.pinned
        yield from ordered_map(partial(run_masks, session), jobs, workers, pinned=pinned)

    def sessions(self) -> Sessions:
        """Of the graph; opens it at the first call."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open_sessions()
            return self._opened


def run_masks(session: Session, batch: MaskedBatch) -> Found:
    """Compute a batch: with the logits of its masks, float32 (masks, vocabulary)."""
    (logits,) = session.run(["logits"], batch.inputs)
    return batch, logits[batch.row, batch.place]
