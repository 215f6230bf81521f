"""Which texts share a row, and what the packed graph then reads."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.text import packing
from runtime.text.packing import Row, pack_batch, plan_packed, widest_row

BUDGET, LONGEST = 512, 512


def clinical(count: int, seed: int = 0) -> list[int]:
    """Lengths as of clinical sentences: log-normal, mean about 50, 95 % up to about 100."""
    drawn = np.random.default_rng(seed).lognormal(np.log(46), 0.47, count)
    return np.clip(drawn.astype(int), 3, LONGEST).tolist()


def rows_of(lengths: list[int], budget: int = BUDGET, longest: int = LONGEST) -> list[Row]:
    """The rows of a plan, after every promise about it was checked."""
    batches = list(plan_packed(lengths, budget, longest))
    for batch in batches:
        assert len({row.width for row in batch}) == 1, "rows of one width"
        assert len(batch) == 1 or len(batch) * batch[0].width <= budget
    rows = [row for batch in batches for row in batch]
    assert sorted(text for row in rows for text in row.texts) == list(range(len(lengths)))
    for row in rows:
        assert sum(lengths[text] for text in row.texts) <= row.width <= longest
    # The last row alone, of at most 32 tokens, is finer.
    odd = [row.width for row in rows if row.width % 32 and row.width != longest]
    assert len(odd) <= 1
    assert all(width < 32 and width % 8 == 0 for width in odd)
    return rows


def padding(lengths: list[int], rows: list[Row]) -> float:
    return sum(row.width for row in rows) / sum(lengths) - 1


CASES = {
    "one": [16],
    "two": [3, 512],
    "every length": list(range(1, 513)),
    "many equal": [37] * 700,
    "all of the longest": [512] * 40,
    "just over a half": [257] * 9,
    "shortest": [2] * 1000,
    "clinical": clinical(1024),
    "any": np.random.default_rng(5).integers(2, 513, 500).tolist(),
}


@pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)
@pytest.mark.parametrize(("budget", "longest"), [(512, 512), (64, 512), (4096, 512), (512, 700)])
def test_every_text_is_in_one_row_within_the_budget(lengths: list[int], budget: int, longest: int) -> None:
    rows_of(lengths, budget, longest)


@pytest.mark.parametrize("longest", [10, 31, 48, 100])
def test_a_model_that_reads_little(longest: int) -> None:
    """Rows are never wider than its position embeddings, whatever the grid says."""
    rows_of(np.random.default_rng(1).integers(2, longest + 1, 50).tolist(), BUDGET, longest)
    rows_of([longest - 1, longest - 2], BUDGET, longest)


@pytest.mark.parametrize("seed", range(4))
def test_little_padding_on_clinical_lengths(seed: int) -> None:
    lengths = clinical(1024, seed)
    assert 45 < np.mean(lengths) < 57
    assert 85 < np.percentile(lengths, 95) < 115
    assert padding(lengths, rows_of(lengths)) < 0.03


def test_negative_control_neighbours_by_length_pad_more() -> None:
    """The same texts, a row each, in batches of 32 sorted by length."""
    lengths = sorted(clinical(1024))
    padded = sum(32 * max(lengths[start : start + 32]) for start in range(0, 1024, 32))
    assert padded / sum(lengths) - 1 > padding(lengths, rows_of(lengths))


@pytest.mark.parametrize(("length", "width"), [(2, 8), (8, 8), (9, 16), (16, 16), (31, 32), (32, 32), (33, 64)])
def test_a_single_short_text_has_a_narrow_row(length: int, width: int) -> None:
    assert [row.width for row in rows_of([length])] == [width]


def test_few_shapes() -> None:
    """Engines prepare each shape once."""
    shapes = set()
    for seed in range(4):
        lengths = clinical(1024, seed)
        for batch in plan_packed(lengths, BUDGET, LONGEST):
            inputs = pack_batch(batch, [[1] * length for length in lengths], 0).inputs
            shapes.add((inputs["input_ids"].shape, inputs["text_positions"].shape))
    assert len(shapes) < 50


def test_the_work_of_planning_grows_no_faster_than_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rows tried: a constant number for each that is made, however many texts are left."""
    tried = 0
    original = packing._Left.fill

    def counted(self: packing._Left, width: int) -> list[int]:
        nonlocal tried
        tried += 1
        return original(self, width)

    monkeypatch.setattr(packing._Left, "fill", counted)
    for count in (500, 10_000):
        tried = 0
        rows = rows_of(clinical(count))
        assert tried <= 7 * len(rows)


def written_out(rows: list[Row], tokens: list[list[int]], pad: int) -> dict[str, list[list[int]]]:
    """The layout, token by token."""
    laid_out: dict[str, list[list[int]]] = {
        name: [] for name in ("input_ids", "position_ids", "segment_ids", "text_positions")
    }
    for row in rows:
        ids, positions, segments, firsts = [], [], [], []
        for number, text in enumerate(row.texts, start=1):
            firsts.append(len(ids))
            for position, token in enumerate(tokens[text]):
                ids.append(token)
                positions.append(position)
                segments.append(number)
        empty = row.width - len(ids)
        for name, values, filler in (
            ("input_ids", ids, pad),
            ("position_ids", positions, 0),
            ("segment_ids", segments, 0),
        ):
            laid_out[name].append(values + [filler] * empty)
        laid_out["text_positions"].append(firsts)
    places = max(map(len, laid_out["text_positions"]))
    while places & (places - 1):
        places += 1
    laid_out["text_positions"] = [firsts + [0] * (places - len(firsts)) for firsts in laid_out["text_positions"]]
    return laid_out


def test_the_layout_equals_one_written_out() -> None:
    rng = np.random.default_rng(2)
    lengths = clinical(300, 2)
    tokens = [rng.integers(5, 1000, length).tolist() for length in lengths]
    seen = []
    for batch in plan_packed(lengths, BUDGET, LONGEST):
        packed = pack_batch(batch, tokens, 9)
        expected = written_out(list(batch), tokens, 9)
        assert list(packed.inputs) == list(expected)
        for name, values in packed.inputs.items():
            assert values.dtype == np.int64
            assert values.tolist() == expected[name], name
        for row, place, text in zip(packed.row, packed.place, packed.texts, strict=True):
            start = packed.inputs["text_positions"][row, place]
            assert packed.inputs["input_ids"][row, start : start + lengths[text]].tolist() == tokens[text]
            seen.append(text)
    assert sorted(seen) == list(range(300))


def test_a_row_with_more_texts_than_the_most_places() -> None:
    row = Row(600, tuple(range(300)))
    packed = pack_batch([row], [[2, 3]] * 300, 0)
    assert packed.inputs["text_positions"].shape == (1, 300)
    assert packed.inputs["text_positions"][0, 299] == 598


def test_texts_whose_embedding_is_read_at_their_end() -> None:
    """Causal transformers: text_positions point at each text's last token, and nothing else differs."""
    lengths = clinical(300, 2)
    tokens = [[5] * (length - 1) + [7] for length in lengths]
    for batch in plan_packed(lengths, BUDGET, LONGEST):
        at_start, at_end = pack_batch(batch, tokens, 9), pack_batch(batch, tokens, 9, "eos")
        found = at_end.inputs["text_positions"][at_end.row, at_end.place]
        assert (at_end.inputs["input_ids"][at_end.row, found] == 7).all()
        assert (at_end.inputs["position_ids"][at_end.row, found] == np.array(lengths)[at_end.texts] - 1).all()
        for name in ("input_ids", "position_ids", "segment_ids"):
            assert np.array_equal(at_start.inputs[name], at_end.inputs[name])
        assert not np.array_equal(at_start.inputs["text_positions"], at_end.inputs["text_positions"])


def test_rows_wider_than_the_longest_text_waste_less() -> None:
    """Where texts are cut at 77 tokens, as CLIP's, the largest width is not theirs."""
    lengths = [min(length, 77) for length in clinical(1024, 2)]
    assert widest_row(77) == 128
    assert widest_row(512) == 512
    assert padding(lengths, rows_of(lengths, 4096, 77)) > 0.08
    assert padding(lengths, rows_of(lengths, 4096, widest_row(77))) < 0.012
