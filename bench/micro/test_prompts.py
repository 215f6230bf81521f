"""Zero-shot classification around the models: prompts that were asked before, and the probabilities of many images."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.engine import Engine
from runtime.tasks.given_prompts import resolve
from runtime.tasks.prompt_sets import prompt_set
from runtime.tasks.zero_shot import ZeroShotClassifier, build_classifier
from runtime.text import Tokenizer


class _TextEncoder:
    """Tokenizes, and then looks up instead of running a model: a cache saves at least what this takes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._table = np.random.default_rng(0).normal(size=(tokenizer.vocabulary_size, 128)).astype(np.float32)

    def encode(self, texts: Sequence[str], normalize: bool = True) -> NDArray[np.float32]:
        assert not normalize
        return np.stack([self._table[ids].mean(axis=0) for ids in self.tokenizer.encode(texts)])


@pytest.fixture
def text(tokenizer: Tokenizer) -> Any:
    """A text encoder without a model."""
    return _TextEncoder(tokenizer)


@pytest.fixture
def prompts() -> dict[str, Any]:
    """The 14 pairs of the built-in set."""
    return {each.label: (each.positive, each.negative) for each in prompt_set("chexpert").prompts}


@pytest.mark.parametrize("cached", [True, False], ids=["asked before", "embedded anew"])
@pytest.mark.benchmark(group="prompts of 14 labels, model left out", max_time=0.3)
def test_prompts(benchmark: Any, cached: bool, text: Any, prompts: dict[str, Any]) -> None:
    """What `Engine.classify` does with prompts; they are checked every time."""
    engine = Engine(SimpleNamespace(manifest=SimpleNamespace(joint=None)), "cpu", {}, text, None, "", (object, ()))  # type: ignore[arg-type]

    def anew() -> ZeroShotClassifier:
        return build_classifier(text, *resolve(prompts, "biovil"))

    assert np.array_equal(engine.zero_shot_classifier(prompts).prompt_embeds, anew().prompt_embeds)
    assert engine.zero_shot_classifier(prompts) is engine.zero_shot_classifier(dict(prompts))
    if cached:
        benchmark(engine.zero_shot_classifier, prompts)
    else:
        benchmark(anew)


def _one_by_one(classifier: ZeroShotClassifier, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Image by image and label by label, as the reference's examples do."""
    found = np.empty((len(images), len(classifier.labels)), dtype=np.float32)
    for row, image in enumerate(images):
        for column, (positive, negative) in enumerate(classifier.prompt_embeds):
            scores = np.exp([image @ positive, image @ negative])
            found[row, column] = scores[0] / scores.sum()
    return found


@pytest.mark.parametrize("way", [ZeroShotClassifier.probabilities, _one_by_one], ids=["runtime", "one by one"])
@pytest.mark.benchmark(group="probabilities of 14 labels for 256 images", max_time=0.3)
def test_probabilities(benchmark: Any, way: Any, text: Any, prompts: dict[str, Any]) -> None:
    """From image embeddings, which the runtime checks."""
    classifier = build_classifier(text, *resolve(prompts, "biovil"))
    images = np.random.default_rng(1).normal(size=(256, 128)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    assert np.abs(way(classifier, images) - _one_by_one(classifier, images)).max() < 1e-6
    benchmark(way, classifier, images)
