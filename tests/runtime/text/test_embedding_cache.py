"""What comes again is not computed again, and is the very same; on real sessions that count what they compute."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import runtime
from runtime.errors import InputError
from runtime.text import embedding_cache
from runtime.text.embedding_cache import EmbeddingCache
from tests.conftest import System

TEXTS = ["no effusion", "a small left pleural effusion", "clear lungs", "edema " * 9]


class Counting:
    """A session that remembers how many texts each of its calls computed."""

    def __init__(self, inner: object, calls: list[int]) -> None:
        self._inner, self._calls = inner, calls
        self.run_options = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def run(self, outputs: list[str], inputs: dict) -> list:
        found = self._inner.run(outputs, inputs)
        if "segment_ids" in inputs:
            self._calls.append(int(inputs["segment_ids"].max(axis=1).sum()))
        return found


Load = Callable[..., runtime.Engine]


@pytest.fixture
def calls() -> list[int]:
    return []


@pytest.fixture
def load(tiny: System, calls: list[int]) -> Load:
    """An engine whose sessions count."""

    def loaded(**options: object) -> runtime.Engine:
        return runtime.load(tiny.bundle, "cpu", "fp32", 1, wrap_session=lambda inner: Counting(inner, calls), **options)

    return loaded


@pytest.fixture(scope="module")
def expected(tiny: System) -> dict[bool, np.ndarray]:
    text = runtime.load(tiny.bundle, "cpu", "fp32", 1, parts="text", text_cache=0).text
    return {normalize: text.encode(TEXTS, normalize=normalize) for normalize in (True, False)}


def test_a_text_that_comes_again_is_the_same_bytes_and_not_computed(load: Load, calls: list[int]) -> None:
    text = load(parts="text").text
    first = text.encode(TEXTS[1])
    kept = first.copy()
    first[:] = 0  # the caller's own
    again = text.encode(TEXTS[1] + ".")  # the same tokens
    assert again.tobytes() == kept.tobytes()
    again[:] = 0
    assert text.encode(TEXTS[1]).tobytes() == kept.tobytes()
    assert calls == [1]
    assert text.cache.hits == 2


def test_normalized_and_unnormalized_embeddings_are_told_apart(load: Load, calls: list[int], expected) -> None:
    text = load(parts="text").text
    for _ in range(2):
        for normalize in (True, False):
            np.testing.assert_allclose(text.encode(TEXTS[0], normalize=normalize), expected[normalize][:1], atol=1e-5)
    assert np.abs(expected[True][0] - expected[False][0]).max() > 1e-3
    assert calls == [1, 1]


def test_of_new_and_old_texts_the_new_ones_are_computed(load: Load, calls: list[int], expected) -> None:
    text = load(parts="text").text
    before = text.encode([TEXTS[2], TEXTS[0]])
    found = text.encode([TEXTS[3], TEXTS[0], TEXTS[1], TEXTS[2], TEXTS[3]])
    np.testing.assert_allclose(found, expected[True][[3, 0, 1, 2, 3]], atol=1e-5)
    assert found[[3, 1]].tobytes() == before.tobytes()
    assert sum(calls) == 4
    text.encode([TEXTS[3], TEXTS[1]])
    assert sum(calls) == 4


def test_prompts_and_phrases_of_tasks_are_embedded_once(load: Load, calls: list[int]) -> None:
    engine = load()
    film = Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 510), dtype=np.uint8))
    scores = [engine.similarity(film, TEXTS[:2]) for _ in range(2)]
    maps = [engine.ground(film, TEXTS[2]).similarity_map for _ in range(2)]
    assert scores[0] == scores[1]
    assert np.array_equal(*maps, equal_nan=True)
    assert sum(calls) == 3
    engine.classify(film, {"a": ([TEXTS[3]], [TEXTS[0]])})
    engine.classify(film, {"b": ([TEXTS[3]], [TEXTS[1]])})
    assert sum(calls) == 4, "the unnormalized ones of `similarity` serve `classify`"


def test_the_cache_is_bounded_and_drops_what_was_not_asked_for_longest(load: Load, calls: list[int]) -> None:
    text = load(parts="text", text_cache=2).text
    for number in (0, 1, 0, 2):  # 1 is dropped
        text.encode(TEXTS[number])
    assert (len(text.cache), len(calls)) == (2, 3)
    text.encode(TEXTS[0])
    assert len(calls) == 3
    text.encode(TEXTS[1])
    assert len(calls) == 4
    text.encode(TEXTS)
    assert len(text.cache) == 2


def test_without_a_cache_everything_is_computed(load: Load, calls: list[int]) -> None:
    text = load(parts="text", text_cache=0).text
    for _ in range(3):
        text.encode(TEXTS[0])
    assert (calls, len(text.cache), text.cache.hits) == ([1, 1, 1], 0, 0)


def test_a_corpus_and_a_stream_pass_by(load: Load, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """They would push out what comes again."""
    text = load(parts="text").text
    list(text.encode_iter(TEXTS))
    text.encode_tokens(text.tokenizer.encode(TEXTS))
    monkeypatch.setattr(embedding_cache, "_CORPUS_TOKENS", 20)
    text.encode(TEXTS)
    assert len(text.cache) == 0
    text.encode(TEXTS[0])
    before = sum(calls)
    text.encode(TEXTS)
    assert sum(calls) == before + len(TEXTS)


def test_bad_texts_raise_as_before_and_are_not_kept(load: Load) -> None:
    text = load(parts="text").text
    text.encode(TEXTS[0])
    with pytest.raises(InputError, match="special token"):
        text.encode([TEXTS[0], "a [CLS]"])
    assert (len(text.cache), text.cache.hits) == (1, 0)


def test_threads_share_a_small_cache(load: Load, expected) -> None:
    text = load(parts="text", text_cache=2).text

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            numbers = rng.integers(len(TEXTS), size=rng.integers(1, 4))
            found = text.encode([TEXTS[number] for number in numbers])
            np.testing.assert_allclose(found, expected[True][numbers], atol=1e-5)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(ask, range(6)))
    assert 0 < len(text.cache) <= 2
    assert text.cache.hits > 0


def test_the_first_of_two_that_computed_the_same_stays() -> None:
    cache, into = EmbeddingCache(2), np.zeros((1, 3), np.float32)
    for value in (1, 2):
        cache.keep("text_embeds", [[5, 6]], [np.full(3, value, np.float32)])
    assert cache.find("text_embeds", [[5, 6]], into) == []
    assert into.tolist() == [[1, 1, 1]]
    assert cache.find("text_embeds", [[6, 5]], into) == [0]


def test_a_forked_child_begins_with_an_empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """There an engine may not be able to compute, which the first text is to say, not the first new one."""
    cache, into = EmbeddingCache(2), np.zeros((1, 3), np.float32)
    cache.keep("text_embeds", [[5]], [np.ones(3, np.float32)])
    monkeypatch.setattr(embedding_cache, "generation", lambda: 1)
    assert cache.find("text_embeds", [[5]], into) == [0]
    assert len(cache) == 0


def test_a_pickled_engine_has_a_cache_of_the_same_size(tiny: System) -> None:
    engine = runtime.load(tiny.bundle, "cpu", parts="text", text_cache=7)
    engine.text.encode(TEXTS[0])
    for copy in (pickle.loads(pickle.dumps(engine)).text, pickle.loads(pickle.dumps(engine.text))):
        assert (copy.cache.size, len(copy.cache)) == (7, 0)


@pytest.mark.parametrize("size", [-1, True, 2.5, "many", None])
def test_sizes_that_are_none(tiny: System, size: object) -> None:
    with pytest.raises(InputError, match="text_cache="):
        runtime.load(tiny.bundle, "cpu", text_cache=size)  # type: ignore[arg-type]
