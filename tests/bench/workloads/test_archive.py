"""Every part of an archive stands for the whole."""

from __future__ import annotations

import numpy as np
import pytest

from bench.workloads.archive import in_parts


def archive(count: int) -> tuple[list[str], list[list[int]]]:
    lengths = np.random.default_rng(1).lognormal(np.log(44), 0.5, count).astype(int) + 3
    return [f"text {number}" for number in range(count)], [[number] * n for number, n in enumerate(lengths)]


def padded(lengths: list[int], batch: int) -> float:
    """Padded tokens of each real one, sorted by length."""
    ordered = sorted(lengths)
    batches = [ordered[start : start + batch] for start in range(0, len(ordered), batch)]
    return sum(max(each) * len(each) for each in batches) / sum(lengths)


@pytest.mark.parametrize("count", [1024, 1000, 256, 130])
def test_parts_begin_the_same_archive_and_are_like_it(count: int) -> None:
    texts, rows = archive(count)
    ordered, parts = in_parts(texts, rows, 0)
    assert sorted(ordered) == sorted(texts)
    assert min(parts) == 64
    assert max(parts) == count
    assert parts[count] == 1.0
    length = dict(zip(texts, map(len, rows), strict=True))
    mean = np.mean(list(length.values()))
    for size, share in parts.items():
        found = [length[text] for text in ordered[:size]]
        assert share == pytest.approx(sum(found) / sum(length.values()))
        assert np.mean(found) == pytest.approx(mean, rel=0.06), size
        assert np.quantile(found, 0.9) == pytest.approx(np.quantile(list(length.values()), 0.9), rel=0.35), size
        if count == 1024:
            # Sorted in batches of eight a part is hardly padded more than the whole; one drawn at random would be.
            assert padded(found, 8) < padded(list(length.values()), 8) + 0.02
    if count == 1024:
        drawn = np.random.default_rng(0).permutation(list(length.values()))[:64].tolist()
        assert padded(drawn, 8) > padded(list(length.values()), 8) + 0.05


def test_within_a_part_lengths_come_as_they_may() -> None:
    texts, rows = archive(1024)
    length = dict(zip(texts, map(len, rows), strict=True))
    found = [length[text] for text in in_parts(texts, rows, 0)[0]]
    for start in range(0, 1024, 64):
        assert abs(np.corrcoef(found[start : start + 64], range(64))[0, 1]) < 0.5
    assert in_parts(texts, rows, 0) == in_parts(texts, rows, 0)
    assert in_parts(texts, rows, 0)[0] != in_parts(texts, rows, 1)[0]


def test_equal_texts_are_no_work_and_few_texts_are_not_divided() -> None:
    texts, rows = archive(128)
    doubled = in_parts([*texts, *texts], [*rows, *rows], 0)[1]
    assert doubled[64] > 64 / 256, "of 256 texts half are no work"
    assert in_parts(texts[:127], rows[:127], 0) == (texts[:127], {})
