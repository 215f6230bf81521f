"""The words that messages share."""

from __future__ import annotations

import pytest

from runtime.process.wording import counted, few


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b", "c"], "a, b, c"),
        (["a", "b", "c", "d"], "a, b, c and 1 more"),
        (map(repr, ["a", "b", "c", "d", "e"]), "'a', 'b', 'c' and 2 more"),
    ],
)
def test_few(names, expected):
    assert few(names, 3) == expected


def test_counted():
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(number, "query", "queries") for number in (0, 1, 2)] == ["0 queries", "1 query", "2 queries"]
