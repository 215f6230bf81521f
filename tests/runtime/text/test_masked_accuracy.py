"""Mask prediction accuracy: which tokens are masked, and the count on a model whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.engines import PROVIDERS, Session, SessionOptions, Sessions
from runtime.errors import Fault, InputError
from runtime.text import Tokenizer
from runtime.text.fill_mask import MaskFiller
from runtime.text.masked_accuracy import MaskedAccuracy, choose_masks
from tests.conftest import System
from tests.runtime.parts import tokenization

SPECIAL = frozenset(range(5))


class Repeats:
    """A model that puts the word to the left of a mask there."""

    def run(self, outputs, inputs):
        assert outputs == ["logits"]
        positions = inputs["mask_positions"]
        left = np.take_along_axis(inputs["input_ids"], np.maximum(positions - 1, 0), axis=1)
        return [np.eye(1000, dtype=np.float32)[left]]


@pytest.fixture(scope="module")
def filler(tiny: System) -> MaskFiller:
    tokenizer = Tokenizer(tiny.bundle / "text", tokenization())
    return MaskFiller(tokenizer, lambda: Sessions(lambda streams: Repeats(), 1), 64)


def test_by_hand(filler: MaskFiller) -> None:
    """Of "left left left right" the model knows the second and third word, whichever mask stands alone."""
    found = filler.masked_token_accuracy(["left left left right", "small small"], one_at_a_time=True)
    assert (found.correct, found.masked, found.texts) == (3, 6, 2)
    assert found.accuracy == 0.5
    # All masked at once: each sees [CLS] or a mask to its left.
    found = filler.masked_token_accuracy(["left left left right", "small small"], share=1)
    assert (found.correct, found.masked) == (0, 6)


def test_many_texts_and_windows(filler: MaskFiller) -> None:
    texts = ["left " * (1 + index % 7) for index in range(600)]
    found = filler.masked_token_accuracy(texts, one_at_a_time=True)
    counts = [1 + index % 7 for index in range(600)]
    assert (found.masked, found.correct) == (sum(counts), sum(counts) - 600)


def test_a_share_of_the_words_is_masked_by_seed_and_position() -> None:
    row = [2, *range(10, 50), 1, 3]
    (chosen,) = choose_masks(row, SPECIAL, 0, 0.15, False, 0)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 6
    assert all(row[position] >= 5 for position in chosen)
    assert choose_masks(row, SPECIAL, 0, 0.15, False, 0) == [chosen]
    assert choose_masks(row, SPECIAL, 0, 0.15, False, 1) != [chosen]
    assert choose_masks(row, SPECIAL, 1, 0.15, False, 0) != [chosen]
    assert choose_masks([2, 9, 3], SPECIAL, 0, 0.15, False, 0) == [[1]], "at least one"
    assert choose_masks([2, 9, 1, 8, 3], SPECIAL, 0, 0.15, True, 0) == [[1], [3]]
    assert choose_masks([2, 1, 3], SPECIAL, 0, 0.15, False, 0) == []
    counts = np.zeros(len(row))
    for number in range(2000):
        counts[choose_masks(row, SPECIAL, number, 0.15, False, 0)[0]] += 1
    assert counts[1:41].min() > 0.7 * 2000 * 0.15, "no word is passed over"


def test_bad_texts_raise_or_are_left_out(filler: MaskFiller) -> None:
    texts = ["left left", "", "has a [MASK]", "1 " * 600, "small small small", "[PAD]"]
    message = (
        r"(?s)4 of 6 texts.*\[1\] '': has no token.*\[2\].*has a \[MASK\] already.*\[3\].*602 tokens.*\[5\].*\[PAD\]"
    )
    with pytest.raises(InputError, match=message):
        filler.masked_token_accuracy(texts)
    faults: list[Fault] = []
    found = filler.masked_token_accuracy(texts, one_at_a_time=True, on_fault=faults.append)
    assert [fault.index for fault in faults] == [1, 2, 3, 5]
    assert (found.correct, found.masked, found.texts) == (3, 5, 2)
    for share in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match="share="):
            filler.masked_token_accuracy(["left"], share=share)
    assert np.isnan(MaskedAccuracy(0, 0, 0, 0.15, False, 0).accuracy)


class Favours:
    """An engine's session with some words made likelier, which an untrained model would never say."""

    def __init__(self, session: Session, bias: np.ndarray) -> None:
        self.session, self.bias = session, bias

    def run(self, outputs, inputs):
        return [logits + self.bias for logits in self.session.run(outputs, inputs)]


def test_as_transformers_counts(tiny: System, tiny_checkpoint: Path) -> None:
    from transformers import BertForMaskedLM

    model = BertForMaskedLM.from_pretrained(str(tiny_checkpoint)).eval()
    tokenizer = Tokenizer(tiny.bundle / "text", tokenization())
    words = ["left", "small", "right", "clear"]
    bias = np.zeros(1000, np.float32)
    bias[[tokenizer.find(word) for word in words]] = 2.5
    session = PROVIDERS["cpu"].open(tiny.bundle / "text/onnx/fill_mask.onnx", SessionOptions(1, "fp32"))
    filler = MaskFiller(tokenizer, lambda: Sessions(lambda streams: Favours(session, bias), 1), 64)
    rng = np.random.default_rng(0)
    texts = [" ".join(words[index] for index in rng.integers(0, 4, rng.integers(1, 30))) for _ in range(30)]
    found = filler.masked_token_accuracy(texts, share=0.4, seed=3)
    correct = masked = 0
    for number, row in enumerate(tokenizer.try_encode(texts, clean=False)[0]):
        (positions,) = choose_masks(row, tokenizer.special_ids, number, 0.4, False, 3)
        ids = torch.tensor([row])
        ids[0, positions] = tokenizer.mask_token_id
        with torch.no_grad():
            best = (model(ids).logits[0, positions] + torch.from_numpy(bias)).argmax(dim=-1)
        correct += int((best == torch.tensor(row)[positions]).sum())
        masked += len(positions)
    assert (found.correct, found.masked) == (correct, masked)
    assert 0 < found.correct < found.masked
