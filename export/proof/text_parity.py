"""Compare text graphs with the reference, and packed ones with their plain twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from export.proof.parity import GATES, PACKED_GATES, Progress, max_abs, min_cosine, parity_record, worst
from export.reference import AnyText
from export.samples import SENTENCES, TRIPLETS
from runtime.bundle import ParityRecord
from runtime.bundle.precisions import PRECISIONS
from runtime.engines import Session
from runtime.text import Tokenizer, pad_batch
from runtime.text.packing import pack_batch, plan_packed, widest_row

__all__ = ["packed_parity", "text_parity"]

# (rows, longest row): batches of 1, 2 and 7, lengths from [CLS] x [SEP] to the limit.
_SHAPES = (
    *((1, length) for length in (3, 4, 5, 8, 16, 31, 64, 127, 256, 511, 512)),
    *((2, length) for length in (3, 17, 128, 512)),
    *((7, length) for length in (3, 33, 128, 512)),
)
_PACKED_LENGTHS = (3, 3, 4, 7, 15, 31, 32, 33, 60, 100, 127, 128, 129, 250, 511, 512)
_PACKED_BUDGET = 512


def text_parity(
    session: Session,
    provider: str,
    precision: str,
    reference: AnyText,
    tokenizer: Tokenizer,
    seed: int = 0,
    progress: Progress = lambda share: None,
) -> ParityRecord:
    """Compare a text graph with the reference on random ids of every batch size and length, and on sentences.

    Args:
        session: the opened graph.
        provider: what runs it.
        precision: of the artifact; picks the gates.
        reference: upstream's model.
        tokenizer: the bundle's.
        seed: of the random ids.
        progress: called with the share done, 0 to 1.

    Returns:
        Figures: max_abs (largest difference of unit-norm embeddings), max_abs_unnormalized (of the others, relative to
        the largest value), min_cosine, max_abs_padding (a padded row against the same row alone), triplets_changed.
    """
    generator = np.random.default_rng(seed)
    longest = reference.longest
    shapes = [(rows, length) for rows, length in _SHAPES if length <= longest]
    seen: dict[str, list[float]] = {"max_abs": [], "max_abs_unnormalized": [], "min_cosine": []}

    def run(rows: list[list[int]]) -> list[NDArray[np.float32]]:
        input_ids, attention_mask = pad_batch(rows, tokenizer.pad_token_id)
        outputs = ["text_embeds", "unnormalized_embeds"]
        return session.run(outputs, {"input_ids": input_ids, "attention_mask": attention_mask})

    def compare(rows: list[list[int]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        input_ids, attention_mask = pad_batch(rows, tokenizer.pad_token_id)
        projected = reference.embed(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        expected = torch.nn.functional.normalize(projected, dim=-1).numpy()
        found, found_projected = run(rows)
        seen["max_abs"].append(max_abs(found, expected))
        seen["max_abs_unnormalized"].append(max_abs(found_projected, projected.numpy()) / float(projected.abs().max()))
        seen["min_cosine"].append(min_cosine(found, expected))
        return found, expected

    for index, (rows, length) in enumerate(shapes):
        lengths = [length, *generator.integers(3, length + 1, rows - 1)]
        compare(random_rows(generator, lengths, tokenizer, reference.vocab_size, reference.pooling))
        progress(index / len(shapes))

    encoded = tokenizer.encode(SENTENCES)
    found, expected = compare(encoded)
    alone = np.concatenate([run([row])[0] for row in encoded])
    embeds = dict(zip(SENTENCES, zip(found, expected, strict=True), strict=True))
    changed = sum(_order(embeds, triplet, 1) and not _order(embeds, triplet, 0) for triplet in TRIPLETS)
    figures = worst(seen) | {"max_abs_padding": max_abs(found, alone), "triplets_changed": float(changed)}
    cases = (
        f"batches of 1, 2 and 7, lengths 3 to {longest} of random tokens; {len(SENTENCES)} sentences in one padded "
        f"batch and alone; {len(TRIPLETS)} triplets"
    )
    return parity_record(provider, reference.name, cases, figures, GATES[precision])


def random_rows(
    generator: np.random.Generator, lengths: Sequence[int], tokenizer: Tokenizer, vocab_size: int, pooling: str
) -> list[list[int]]:
    """Random token ids, one row a length.

    Models whose embedding is the end token's state find that by its id, which therefore stands at the end alone.

    Args:
        generator: draws them.
        lengths: at least 3.
        tokenizer: the bundle's.
        vocab_size: ids are below it.
        pooling: see `TextPart.pooling`.
    """
    rows: list[list[int]] = [generator.integers(5, vocab_size, length).tolist() for length in lengths]
    if pooling != "eos":
        return rows
    start, end = tokenizer.encode([""])[0]
    ordinary = min(start, end, vocab_size)
    return [[start, *(index % ordinary for index in row[1:-1]), end] for row in rows]


def packed_parity(
    plain: Session,
    packed: Session,
    provider: str,
    precision: str,
    tokenizer: Tokenizer,
    vocab_size: int,
    seed: int = 0,
    pooling: str = "cls",
) -> ParityRecord:
    """Compare texts side by side in rows with the same texts alone, on one engine.

    Args:
        plain: the graph that takes a text a row.
        packed: its twin.
        provider: what runs both.
        precision: of both; picks the gates.
        tokenizer: the bundle's.
        vocab_size: random ids are below it.
        seed: of the random ids.
        pooling: see `TextPart.pooling`.

    Returns:
        Figures: max_abs and min_cosine.
    """
    generator = np.random.default_rng(seed)
    lengths = [length for length in _PACKED_LENGTHS if length <= tokenizer.max_length]
    rows = [*tokenizer.encode(SENTENCES)]
    rows += random_rows(generator, lengths, tokenizer, vocab_size, pooling)
    found = np.empty((len(rows), plain.run(["text_embeds"], _feed([rows[0]], tokenizer))[0].shape[1]), np.float32)
    for batch in plan_packed([len(row) for row in rows], _PACKED_BUDGET, widest_row(tokenizer.max_length)):
        laid_out = pack_batch(batch, rows, tokenizer.pad_token_id, pooling)
        embeds = packed.run(["text_embeds"], laid_out.inputs)[0]
        found[laid_out.texts] = embeds[laid_out.row, laid_out.place]
    alone = np.concatenate([plain.run(["text_embeds"], _feed([row], tokenizer))[0] for row in rows])
    figures = {"max_abs": max_abs(found, alone), "min_cosine": min_cosine(found, alone)}
    cases = f"{len(SENTENCES)} sentences and {len(lengths)} random texts of {min(lengths)} to {max(lengths)} tokens"
    gates = PACKED_GATES[PRECISIONS[precision].rounds]
    return parity_record(provider, "the graph that takes a text a row", cases, figures, gates)


def _feed(rows: list[list[int]], tokenizer: Tokenizer) -> dict[str, NDArray[np.int64]]:
    input_ids, attention_mask = pad_batch(rows, tokenizer.pad_token_id)
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def _order(
    embeds: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]], triplet: tuple[str, str, str], which: int
) -> bool:
    reference, synonym, contradiction = (embeds[text][which] for text in triplet)
    return bool(reference @ synonym > reference @ contradiction)
