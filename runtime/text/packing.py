"""Texts side by side in rows: which texts share a row, and what the packed graph reads.

Embedding a corpus padded to the longest text of each batch computes padding; sorting by length leaves 11 % of it on
clinical notes, packing less than 1 %. Exact: each text attends to itself alone (Krell et al., 2021, "Efficient sequence
packing without cross-contamination").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["WIDTH_COST", "MaskedBatch", "PackedBatch", "Row", "pack_batch", "pack_masks", "plan_packed", "widest_row"]

# Row widths are multiples of this, so that engines prepare few shapes; the last row's, which may hold a single short
# query, is finer.
_GRID = 32
_FINE_GRID = 8
# Attention computes width² scores: the time of a token grows by this share with each token of width. Measured with
# OpenVINO on int8 BERT-base: per token, rows of 128 take 1.08 times as long as rows of 32, rows of 512 1.34 times.
WIDTH_COST = 1 / 1250
# Widths beyond the longest text's that are tried, in steps of the grid.
_WIDER = 5
# Rows may be so wide, however short the longest text: of reports that are cut at 77 tokens, rows of 77 leave 8.5 %
# padding, rows of 128 leave 0.9 %.
_WIDE = 128
# Places for texts in a row are rounded up to one of these, for few shapes as well.
_PLACES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Row:
    """One row: its width in tokens, and the indices of its texts, in order."""

    width: int
    texts: tuple[int, ...]


@dataclass(frozen=True)
class PackedBatch:
    """What the packed graph reads.

    Attributes:
        inputs: input_ids, position_ids, segment_ids int64 (rows, width), text_positions int64 (rows, places).
        row: intp (texts,), the row of each text; place alike. Result i belongs to texts[i].
        texts: intp (texts,), indices of the texts.
    """

    inputs: dict[str, NDArray[np.int64]]
    row: NDArray[np.intp]
    place: NDArray[np.intp]
    texts: NDArray[np.intp]


@dataclass(frozen=True)
class MaskedBatch:
    """What the graph that fills masks reads.

    Attributes:
        inputs: input_ids, position_ids, segment_ids int64 (rows, width), mask_positions int64 (rows, places).
        row: intp (masks,), the row of each mask; place alike. Result i belongs to mask nth[i] of text texts[i].
        texts: intp (masks,), indices of the texts; nth numbers the masks of a text from 0.
    """

    inputs: dict[str, NDArray[np.int64]]
    row: NDArray[np.intp]
    place: NDArray[np.intp]
    texts: NDArray[np.intp]
    nth: NDArray[np.intp]


def plan_packed(lengths: Sequence[int], token_budget: int, longest: int) -> Iterator[tuple[Row, ...]]:
    """Fill rows with texts and batches with rows of one width.

    Rows are opened for the longest text that is left and filled with the longest that fit; the width is the one that
    costs least per token.

    Args:
        lengths: number of tokens of each text, each at most `longest`.
        token_budget: largest rows × width of a batch; a single row may exceed it.
        longest: largest width.

    Yields:
        The rows of a batch; every text is in exactly one.
    """
    by_width: dict[int, list[Row]] = defaultdict(list)
    for row in _fill_rows(lengths, longest):
        rows = by_width[row.width]
        rows.append(row)
        if (len(rows) + 1) * row.width > token_budget:
            yield tuple(by_width.pop(row.width))
    for _, rows in sorted(by_width.items(), reverse=True):
        yield tuple(rows)


def widest_row(longest: int) -> int:
    """The largest width for `plan_packed` where texts have at most `longest` tokens."""
    return max(longest, _WIDE)


def pack_batch(
    rows: Sequence[Row], tokens: Sequence[Sequence[int]], pad_token_id: int, pooling: str = "cls"
) -> PackedBatch:
    """Lay out the texts of some rows of one width.

    Args:
        rows: of one width.
        tokens: token ids of every text.
        pad_token_id: id to fill with.
        pooling: see `TextPart.pooling`; of "eos", text_positions point at each text's last token, else at its first.
    """
    shape = (len(rows), rows[0].width)
    input_ids = np.full(shape, pad_token_id, dtype=np.int64)
    position_ids = np.zeros(shape, dtype=np.int64)
    segment_ids = np.zeros(shape, dtype=np.int64)
    text_positions = np.zeros((len(rows), _places(len(row.texts) for row in rows)), dtype=np.int64)
    where: list[tuple[int, int, int]] = []
    for index, row in enumerate(rows):
        start = 0
        for place, text in enumerate(row.texts):
            end = start + len(tokens[text])
            input_ids[index, start:end] = tokens[text]
            position_ids[index, start:end] = np.arange(end - start)
            segment_ids[index, start:end] = place + 1
            text_positions[index, place] = end - 1 if pooling == "eos" else start
            where.append((index, place, text))
            start = end
    row_of, place_of, text_of = np.array(where, dtype=np.intp).T
    inputs = {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "segment_ids": segment_ids,
        "text_positions": text_positions,
    }
    return PackedBatch(inputs, row_of, place_of, text_of)


def pack_masks(
    rows: Sequence[Row], tokens: Sequence[Sequence[int]], masks: Sequence[Sequence[int]], pad_token_id: int
) -> MaskedBatch:
    """Lay out the texts of some rows of one width, and point at their masks instead of their beginnings.

    Args:
        rows: of one width.
        tokens: token ids of every text.
        masks: where in each text its masks are, at least one each, ascending.
        pad_token_id: id to fill with.
    """
    packed = pack_batch(rows, tokens, pad_token_id)
    starts = packed.inputs.pop("text_positions")
    where: list[tuple[int, int, int, int]] = []
    found: list[list[int]] = [[] for _ in rows]
    for row, place, text in zip(packed.row, packed.place, packed.texts, strict=True):
        for nth, offset in enumerate(masks[text]):
            where.append((row, len(found[row]), text, nth))
            found[row].append(starts[row, place] + offset)
    positions = np.zeros((len(rows), _places(map(len, found))), dtype=np.int64)
    for index, each in enumerate(found):
        positions[index, : len(each)] = each
    row_of, place_of, text_of, nth_of = np.array(where, dtype=np.intp).T
    return MaskedBatch({**packed.inputs, "mask_positions": positions}, row_of, place_of, text_of, nth_of)


def _places(counts: Iterable[int]) -> int:
    most = max(counts)
    return next((count for count in _PLACES if count >= most), most)


def _fill_rows(lengths: Sequence[int], longest: int) -> Iterator[Row]:
    """Rows from the widest to the narrowest."""
    left = _Left(lengths)
    while (first := left.longest(longest)) is not None:
        if left.tokens <= min(_GRID, longest):
            yield Row(min(_round_up(left.tokens, _FINE_GRID), longest), left.take_all())
            return
        narrowest = min(_round_up(first, _GRID), longest)
        widths = range(narrowest, min(narrowest + _WIDER * _GRID, longest) + 1, _GRID)
        best: tuple[float, int, list[int]] | None = None
        for width in widths:
            chosen = left.fill(width)
            cost = width * (1 + width * WIDTH_COST) / sum(chosen)
            if best is None or cost < best[0]:
                best = (cost, width, chosen)
            if sum(chosen) == left.tokens:
                break  # everything fits: wider rows would only be emptier
        assert best is not None
        _, width, chosen = best
        yield Row(width, tuple(left.take(length) for length in chosen))


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


class _Left:
    """The texts not yet in a row, by length."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.tokens = int(sum(lengths))
        self._texts: dict[int, list[int]] = defaultdict(list)
        for index in range(len(lengths) - 1, -1, -1):
            self._texts[lengths[index]].append(index)
        self._counts = [0] * (max(lengths, default=0) + 1)
        for length, texts in self._texts.items():
            self._counts[length] = len(texts)

    def longest(self, limit: int) -> int | None:
        """The longest length left, at most `limit`."""
        for length in range(min(limit, len(self._counts) - 1), 0, -1):
            if self._counts[length]:
                return length
        return None

    def fill(self, width: int) -> list[int]:
        """Lengths for a row, longest first, without taking them."""
        chosen: list[int] = []
        room, length = width, len(self._counts) - 1
        while room > 0 and length > 0:
            length = min(length, room)
            while length > 0 and not self._counts[length]:
                length -= 1
            if length == 0:
                break
            count = min(self._counts[length], room // length)
            chosen += [length] * count
            room -= count * length
            length -= 1
        return chosen

    def take(self, length: int) -> int:
        """The next text of that length."""
        self._counts[length] -= 1
        self.tokens -= length
        return self._texts[length].pop()

    def take_all(self) -> tuple[int, ...]:
        """All texts left, longest first."""
        return tuple(self.take(length) for length in self.fill(self.tokens))
