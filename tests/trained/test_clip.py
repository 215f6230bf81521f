"""The small CLIP with trained weights, by transformers: what the exports of such systems are to be judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from tests.trained.cases import Case, held_out_cases
from tests.trained.conftest import COUNT
from tests.trained.figures import CHANCE, figures
from tests.trained.models import clip
from tests.trained.rounding import coarse_activations, coarse_weights
from tests.trained.wordings import words

pytestmark = pytest.mark.slow

# Well below what was reached, well above chance.
BOUNDS = {"finding": 0.85, "location": 0.97, "retrieval": 0.85, "grounding": 0.9, "pointing": 0.95}


@dataclass(frozen=True)
class TrainedClip:
    """A checkpoint, transformers' model of it, cases it was not trained on, and what it makes of them."""

    checkpoint: Path
    model: CLIPModel
    cases: list[Case]
    image_embeds: NDArray[np.float32]
    patch_embeds: NDArray[np.float32]
    figures: dict[str, float]


@pytest.fixture(scope="module")
def trained_clip() -> Mapping[str, TrainedClip]:
    """Kind of checkpoint → that."""
    found, cases = {}, held_out_cases(COUNT)
    for kind in clip.KINDS:
        checkpoint = clip.checkpoint(kind)
        model = clip.load_model(checkpoint)
        embeds = clip.reference_images(model, checkpoint, cases)
        reached = figures(cases, clip.reference_texts(model, checkpoint), *embeds)
        found[kind] = TrainedClip(checkpoint, model, cases, *embeds, reached)
    return found


def measured(trained: TrainedClip, model: CLIPModel) -> dict[str, float]:
    """Figures of another model with the same files beside it."""
    images = clip.reference_images(model, trained.checkpoint, trained.cases)
    return figures(trained.cases, clip.reference_texts(model, trained.checkpoint), *images)


def test_it_understands_images_and_texts(trained_clip: Mapping[str, TrainedClip]) -> None:
    reached = trained_clip["plain"].figures
    assert not {name: value for name, value in reached.items() if value < BOUNDS[name]}, reached


def test_each_caption_finds_its_images(trained_clip: Mapping[str, TrainedClip]) -> None:
    """The figures hold the way from images to captions; this is the other, among all images of the cases."""
    plain = trained_clip["plain"]
    captions = clip.reference_texts(plain.model, plain.checkpoint)([case.caption for case in plain.cases])
    labels = [(case.finding, case.location) for case in plain.cases]
    nearest = np.argsort(-(captions @ plain.image_embeds.T), axis=1)[:, :5]
    fits = np.array([[labels[row] == label for row in rows] for rows, label in zip(nearest, labels, strict=True)])
    assert fits.any(1).mean() >= 0.95
    assert fits.mean() >= 0.85
    order = np.random.default_rng(0).permutation(COUNT)
    assert (
        np.mean([labels[order[row]] == label for rows, label in zip(nearest, labels, strict=True) for row in rows])
        < 0.15
    )


def test_outliers_change_nothing(trained_clip: Mapping[str, TrainedClip]) -> None:
    plain, other = (trained_clip[kind] for kind in clip.KINDS)
    assert other.figures == plain.figures
    assert np.abs(other.image_embeds - plain.image_embeds).max() <= 1e-6
    assert np.abs(other.patch_embeds - plain.patch_embeds).max() <= 1e-6
    assert not torch.equal(*(each.model.vision_model.encoder.layers[0].mlp.fc1.weight for each in (plain, other)))


def test_wrong_labels_give_chance(trained_clip: Mapping[str, TrainedClip]) -> None:
    """Negative control: the figures do not come from the way they are computed."""
    plain = trained_clip["plain"]
    encode_texts = clip.reference_texts(plain.model, plain.checkpoint)
    order = np.random.default_rng(0).permutation(COUNT)
    reached = figures(plain.cases, encode_texts, plain.image_embeds[order], plain.patch_embeds[order])
    assert all(reached[name] < CHANCE[name] + 0.1 for name in CHANCE), reached


def test_coarse_numbers_are_noticed(trained_clip: Mapping[str, TrainedClip]) -> None:
    """Negative control: naive roundings lose far more than a precision may, of the checkpoint that has outliers.

    The plain one forgives them: what it keeps proves nothing about a precision.
    """
    plain, outliers = (trained_clip[kind] for kind in clip.KINDS)
    for rounded in (coarse_weights, coarse_activations):
        lost = {
            name: plain.figures[name] - value for name, value in measured(outliers, rounded(outliers.model)).items()
        }
        assert min(lost["finding"], lost["retrieval"]) > 0.03, (rounded.__name__, lost)
        kept = measured(plain, rounded(plain.model))
        assert max(abs(plain.figures[name] - value) for name, value in kept.items()) < 0.03, (rounded.__name__, kept)
    # Positive control: weights of 8 bits, a scale each row, keep the figures.
    kept = measured(outliers, coarse_weights(outliers.model, 8, each_row=True))
    assert max(abs(plain.figures[name] - value) for name, value in kept.items()) <= 0.01, kept


def test_the_tokenizer_is_clips(trained_clip: Mapping[str, TrainedClip]) -> None:
    """Ids by the rules written out: lower case, pieces by rank of merge, start and end as the largest two ids."""
    checkpoint = trained_clip["plain"].checkpoint
    tokenizer = CLIPTokenizer.from_pretrained(str(checkpoint))
    version, *merges = (checkpoint / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert version == "#version: 0.2"
    ranks = {tuple(line.split(" ")): rank for rank, line in enumerate(merges)}
    vocabulary = tokenizer.get_vocab()
    start, end = len(vocabulary) - 2, len(vocabulary) - 1
    assert (vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]) == (start, end)
    assert [vocabulary[piece + other] for piece, other in ranks] == [512 + rank for rank in ranks.values()]
    for word in [*sorted(words()), "pneumothorax"]:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while pairs := [pair for pair in pairwise(pieces) if pair in ranks]:
            best = min(pairs, key=ranks.__getitem__)
            at = [*pairwise(pieces)].index(best)
            pieces[at : at + 2] = ["".join(best)]
        assert tokenizer(word.upper())["input_ids"] == [start, *(vocabulary[piece] for piece in pieces), end]
    lengths = {len(tokenizer(word)["input_ids"]) - 2 for word in words()}
    assert {1, 2, 3} <= lengths, "every word is one token"


def test_the_pixels_learned_from_are_the_processors(trained_clip: Mapping[str, TrainedClip]) -> None:
    plain = trained_clip["plain"]
    processor = CLIPImageProcessorPil.from_pretrained(str(plain.checkpoint))
    images = [Image.fromarray(case.image) for case in plain.cases[:4]]
    expected = processor(images, return_tensors="np")["pixel_values"]
    assert np.abs(clip._pixels_of(plain.cases[:4]).numpy() - expected).max() <= 1e-6


def test_the_state_at_the_end_is_taken(trained_clip: Mapping[str, TrainedClip]) -> None:
    """Not that of the padding: texts embed alike in any company, and by transformers' own function."""
    plain = trained_clip["plain"]
    captions = [case.caption for case in plain.cases[:8]]
    encode = clip.reference_texts(plain.model, plain.checkpoint)
    alone = np.concatenate([encode([caption]) for caption in captions])
    assert np.abs(encode([*captions, " ".join(captions[:3])])[:8] - alone).max() <= 1e-5
    tokens = CLIPTokenizer.from_pretrained(str(plain.checkpoint))(captions, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = plain.model.get_text_features(**tokens)
    expected = getattr(expected, "pooler_output", expected)  # transformers 5 returns more than the tensor
    assert np.abs(encode(captions) - expected.numpy()).max() <= 1e-5
