"""Strings → token ids → what the graph reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.text import Tokenizer, pad_batch, plan_batches
from runtime.text.packing import PackedBatch, pack_batch, plan_packed

_BUDGET = 2048
_LONGEST = 512


@pytest.mark.benchmark(group="tokenize 256 reports", max_time=0.3)
def test_tokenize(benchmark: Any, tokenizer: Tokenizer, texts: list[str]) -> None:
    """The runtime's, which also checks every text."""
    assert len(benchmark(tokenizer.encode, texts)) == len(texts)


@pytest.mark.benchmark(group="tokenize 256 reports", max_time=0.3)
def test_tokenize_with_transformers(
    benchmark: Any, tokenizer_folder: Path, texts: list[str], tokens: list[list[int]]
) -> None:
    """transformers' fast tokenizer, with the trailing marks left out as the reference does."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(tokenizer_folder))

    def tokenize() -> list[list[int]]:
        found: list[list[int]] = theirs([text.rstrip("!?.") for text in texts])["input_ids"]
        return found

    assert tokenize() == tokens
    benchmark(tokenize)


def _packed(tokens: list[list[int]]) -> list[PackedBatch]:
    lengths = [len(row) for row in tokens]
    return [pack_batch(rows, tokens, 0) for rows in plan_packed(lengths, _BUDGET, _LONGEST)]


def _sorted(tokens: list[list[int]]) -> list[tuple[Any, Any]]:
    lengths = [len(row) for row in tokens]
    return [pad_batch([tokens[index] for index in rows], 0) for rows in plan_batches(lengths, _BUDGET)]


def _in_order(tokens: list[list[int]]) -> list[tuple[Any, Any]]:
    """As a loop over a corpus does: 32 texts at a time, as they come."""
    return [pad_batch(tokens[start : start + 32], 0) for start in range(0, len(tokens), 32)]


def _texts_of(batch: PackedBatch) -> list[tuple[int, ...]]:
    ids, segments = batch.inputs["input_ids"], batch.inputs["segment_ids"]
    return [
        tuple(ids[row][segments[row] == place + 1].tolist()) for row, place in zip(batch.row, batch.place, strict=True)
    ]


@pytest.mark.benchmark(group="token ids of 256 reports → batches", max_time=0.3)
def test_pack(benchmark: Any, tokens: list[list[int]]) -> None:
    """Plan and lay out packed rows."""
    batches = benchmark(_packed, tokens)
    order = [index for batch in batches for index in batch.texts]
    assert sorted(order) == list(range(len(tokens)))
    assert [row for batch in batches for row in _texts_of(batch)] == [tuple(tokens[index]) for index in order]
    benchmark.extra_info["tokens computed"] = sum(batch.inputs["input_ids"].size for batch in batches)


@pytest.mark.parametrize("plan", [_sorted, _in_order], ids=["sorted", "in order"])
@pytest.mark.benchmark(group="token ids of 256 reports → batches", max_time=0.3)
def test_pad(benchmark: Any, plan: Any, tokens: list[list[int]]) -> None:
    """Batches padded to their longest text."""
    batches = benchmark(plan, tokens)
    found = sorted(
        tuple(row[mask == 1].tolist()) for ids, masks in batches for row, mask in zip(ids, masks, strict=True)
    )
    assert found == sorted(map(tuple, tokens))
    benchmark.extra_info["tokens computed"] = sum(ids.size for ids, _ in batches)


@pytest.mark.benchmark(group="pad 32 rows", max_time=0.3)
def test_pad_32(benchmark: Any, tokens: list[list[int]]) -> None:
    """The runtime's, with the mask."""
    ids, mask = benchmark(pad_batch, tokens[:32], 0)
    assert mask.sum() == sum(map(len, tokens[:32]))
    assert ids.shape == mask.shape


@pytest.mark.benchmark(group="pad 32 rows", max_time=0.3)
def test_pad_32_with_torch(benchmark: Any, tokens: list[list[int]]) -> None:
    """torch's pad_sequence, twice."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def pad() -> tuple[Any, Any]:
        ids = pad_sequence([torch.tensor(row) for row in tokens[:32]], batch_first=True)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.int64) for row in tokens[:32]], batch_first=True)
        return ids.numpy(), mask.numpy()

    for found, expected in zip(pad(), pad_batch(tokens[:32], 0), strict=True):
        assert np.array_equal(found, expected)
    benchmark(pad)
