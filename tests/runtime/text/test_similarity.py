"""Text against text: the reference's pairwise similarities, and where this differs from it on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

import runtime
from export.samples import SENTENCES, TRIPLETS
from runtime.text.similarity import pairwise_similarity, similarity_matrix
from tests.conftest import System


@pytest.fixture(scope="module")
def engine(tiny: System) -> runtime.Engine:
    return runtime.load(tiny.bundle, provider="cpu", parts=["text"])


def test_similarity_is_that_of_the_reference(tiny: System, engine: runtime.Engine) -> None:
    from tests.oracle import reference_text_engine

    first = [text for text, _, _ in TRIPLETS] * 2
    second = [text for _, text, _ in TRIPLETS] + [text for _, _, text in TRIPLETS]
    expected = reference_text_engine(tiny.checkpoint).get_pairwise_similarities(first, second).numpy()
    found = engine.text.similarity(first, second)
    assert found.dtype == np.float32
    assert found.shape == (len(first),)
    assert np.abs(found - expected).max() <= 1e-5
    assert np.abs(engine.text.similarity(first, second[::-1]) - expected).max() > 1e-3, "pairs, not all with all"


def test_two_strings_and_generators(engine: runtime.Engine) -> None:
    first, second = SENTENCES[:4], SENTENCES[4:8]
    found = engine.text.similarity(iter(first), tuple(second))
    assert engine.text.similarity(first[2], second[2]) == pytest.approx(found[2:3], abs=1e-6)
    equal = engine.text.similarity(SENTENCES, SENTENCES)
    assert equal.max() <= 1
    assert equal == pytest.approx(np.ones(len(SENTENCES)), abs=1e-6)


def test_matrix_equals_scikit_learn_and_its_diagonal_the_pairs(engine: runtime.Engine) -> None:
    a, b = engine.text.encode(SENTENCES[:7]), engine.text.encode(SENTENCES[7:12])
    assert np.abs(similarity_matrix(a, b) - cosine_similarity(a, b)).max() <= 1e-6
    assert np.abs(pairwise_similarity(a[:5], b) - np.diag(cosine_similarity(a[:5], b))).max() <= 1e-6
    with pytest.raises(runtime.InputError, match=r"\(7, 128\) and \(5, 128\)"):
        pairwise_similarity(a, b)
    with pytest.raises(runtime.InputError, match=r"\(7, 128\) and \(5, 4\)"):
        similarity_matrix(a, b[:, :4])


def test_rounding_never_leaves_the_range() -> None:
    long = np.full((1, 3), np.nextafter(np.float32(1 / np.sqrt(3)), np.float32(1)), dtype=np.float32)
    assert long[0] @ long[0] > 1
    assert pairwise_similarity(long, long) == [1]
    assert pairwise_similarity(long, -long) == [-1]
    assert similarity_matrix(long, -long) == [[-1]]


def test_lists_that_do_not_pair_are_refused(engine: runtime.Engine) -> None:
    with pytest.raises(runtime.InputError, match="a has 3 texts and b has 1"):
        engine.text.similarity(["x", "y", "z"], "x")
    with pytest.raises(runtime.InputError, match="empty"):
        engine.text.similarity([], [])
    with pytest.raises(runtime.InputError, match="b is a int"):
        engine.text.similarity("x", 3)  # type: ignore[arg-type]


def test_bad_texts_of_both_sides_are_listed_together(engine: runtime.Engine) -> None:
    with pytest.raises(runtime.InputError) as caught:
        engine.text.similarity(["fine", "[SEP]", "x"], ["fine", "y", None])  # type: ignore[list-item]
    assert [(fault.index, fault.name[:1]) for fault in caught.value.faults] == [(1, "a"), (2, "b")]
    assert "2 of 6 texts" in str(caught.value)
