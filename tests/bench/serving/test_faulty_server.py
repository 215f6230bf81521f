"""Marked texts are found by their token ids, in any row and at any place, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from bench.serving.faulty_server import marked

MARK = [7, 7, 9]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([[1, 7, 7, 9, 2]], True),
        ([[1, 2, 3, 4, 5], [0, 0, 7, 7, 9]], True),
        ([[7, 7, 8, 9, 9]], False),
        ([[7, 9, 7, 9, 7]], False),
        ([[1, 1, 1, 7, 7], [9, 1, 1, 1, 1]], False),
        ([[7, 7]], False),
    ],
)
def test_a_mark_stands_in_one_row(rows: list[list[int]], found: bool) -> None:
    assert marked(np.array(rows), MARK) is found
