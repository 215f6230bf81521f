"""Words and regions against GLoRIA's own code."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from runtime.bundle.parts import WordAttention
from runtime.tasks.word_regions import attend, local_similarity, word_maps
from tests.export.families.gloria_upstream import attention_fn, attention_maps, get_local_similarities

RULE, LONGEST, D = WordAttention(temperature=4.0, sharpness=5.0), 97, 24
TEXTS = ["no effusion", "small left effusion of 2 cm", "a", "x y", "[severe] edema", "no finding " * 8]


class TextWords(NamedTuple):
    words: tuple[str, ...]
    embeds: NDArray[np.float32]
    characters: int


def embedded(seed: int, scale: float) -> tuple[torch.Tensor, torch.Tensor, list[TextWords], list[list[str]]]:
    """Regions of two images; words as `BertEncoder` pads them, as the runtime has them, and their names."""
    rng = np.random.default_rng(seed)
    regions = rng.normal(scale=scale, size=(2, D, 5, 5)).astype(np.float32)
    padded = np.zeros((len(TEXTS), D, LONGEST), np.float32)
    found, names = [], []
    for row, text in enumerate(TEXTS):
        words = text.replace("[", "").replace("]", "").split()
        embeds = rng.normal(scale=scale, size=(len(words) + 2, D)).astype(np.float32)
        padded[row, :, : len(embeds)] = embeds.T
        characters = len([each for each in text if not each.startswith("[")])
        found.append(TextWords(tuple(words), embeds, characters))
        names.append(["[CLS]", *words, "[SEP]", *["[PAD]"] * (LONGEST - len(embeds))])
    return torch.from_numpy(regions), torch.from_numpy(padded), found, names


@pytest.mark.parametrize("scale", [0.1, 0.4, 1.0])
def test_attention_is_gloria_s(scale: float) -> None:
    regions, padded, texts, names = embedded(1, scale)
    for index, text in enumerate(texts):
        words = torch.from_numpy(text.embeds.T.copy())[None]
        seen, attention = attention_fn(words, regions[:1], 4.0)
        found, shares = attend(text.embeds, regions[0].permute(1, 2, 0).reshape(25, D).numpy(), 4.0)
        assert np.abs(found - seen[0].T.numpy()).max() < 1e-5
        assert np.abs(shares - attention[0].reshape(-1, 25).numpy()).max() < 1e-6
        maps = attention_maps(regions[:1].repeat(len(texts), 1, 1, 1), padded, names)[index]
        mine = word_maps(text.embeds, regions[0].permute(1, 2, 0).numpy(), RULE)
        assert mine.shape == (len(text.words), 5, 5)
        assert np.abs(mine - maps[1:].numpy()).max() < 1e-6
        assert np.allclose(mine.sum((1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 0.4, 1.0])
def test_local_similarities_are_gloria_s(scale: float) -> None:
    regions, padded, texts, _ = embedded(2, scale)
    expected = get_local_similarities(regions, padded, [text.characters for text in texts])
    assert max(text.characters for text in texts) < LONGEST
    for image in range(2):
        places = regions[image].permute(1, 2, 0).numpy()
        found = [local_similarity(text.embeds, text.characters, places, RULE, LONGEST) for text in texts]
        assert found == pytest.approx(expected[image].tolist(), abs=2e-5)


def test_words_of_zeros_count_as_in_gloria() -> None:
    """A negative control: with the words alone, which would be the obvious thing, figures differ."""
    regions, padded, texts, _ = embedded(3, 0.4)
    exact = get_local_similarities(regions, padded, [text.characters for text in texts])
    alone = get_local_similarities(regions, padded, [len(text.words) for text in texts])
    assert (exact - alone).abs().max() > 0.01


def test_texts_of_more_characters_than_words_can_be() -> None:
    """GLoRIA fails, or mixes words up, from 97 characters on."""
    regions, padded, texts, _ = embedded(4, 0.4)
    with pytest.raises(RuntimeError):
        get_local_similarities(regions, padded, [LONGEST] * len(texts))
    places = regions[0].permute(1, 2, 0).numpy()
    most = local_similarity(texts[0].embeds, LONGEST - 1, places, RULE, LONGEST)
    assert local_similarity(texts[0].embeds, 500, places, RULE, LONGEST) == most
    expected = get_local_similarities(regions, padded[:1], [LONGEST - 1])[0, 0]
    assert most == pytest.approx(float(expected), abs=2e-5)
