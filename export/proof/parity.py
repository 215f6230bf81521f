"""Compare what was exported with PyTorch, and decide whether it may leave the house."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from export.errors import GateError
from export.reference import BioViLImageModel, CXRBertModel
from export.samples import SENTENCES, TRIPLETS, chest_phantom
from runtime.bundle import ParityRecord
from runtime.engines import Session
from runtime.text import Tokenizer, pad_batch
from runtime.text.packing import pack_batch, plan_packed

__all__ = [
    "GATES",
    "Progress",
    "check_gates",
    "exceeded",
    "image_parity",
    "packed_parity",
    "text_parity",
]

# precision → figure → largest value allowed; of figures named min_… the smallest.
GATES: Mapping[str, Mapping[str, float]] = {
    "fp32": {
        "max_abs": 1e-5,
        "max_abs_unnormalized": 1e-5,
        "max_abs_patch": 1e-5,
        "max_abs_padding": 1e-5,
        "triplets_changed": 0,
    },
    "packed fp32": {"max_abs": 1e-5},
    # int8 and bf16 round: what differs by 1e-7 before can differ by a step after.
    "packed int8": {"min_cosine": 0.999},
    "packed int8-dynamic": {"min_cosine": 0.999},
    "packed bf16": {"min_cosine": 0.999},
    "masks fp32": {"max_abs_score": 1e-5, "order_changed": 0, "min_cosine_alone": 0.999},
    # What int8 does to the words themselves depends on the weights and is reported only.
    "masks int8": {"min_cosine_alone": 0.999},
    "masks int8-dynamic": {"min_cosine_alone": 0.999},
    "masks bf16": {"min_cosine_alone": 0.999},
    "fp16": {"min_cosine": 0.9995, "min_cosine_patch": 0.9995, "triplets_changed": 0},
}

# (rows, longest row): batches of 1, 2 and 7, lengths from [CLS] x [SEP] to the limit.
_SHAPES = (
    *((1, length) for length in (3, 4, 5, 8, 16, 31, 64, 127, 256, 511, 512)),
    *((2, length) for length in (3, 17, 128, 512)),
    *((7, length) for length in (3, 33, 128, 512)),
)
_PACKED_LENGTHS = (3, 3, 4, 7, 15, 31, 32, 33, 60, 100, 127, 128, 129, 250, 511, 512)
_PACKED_BUDGET = 512
_IMAGE_BATCHES = (1, 2, 7)

Progress = Callable[[float], None]


def check_gates(artifact: str, records: Iterable[ParityRecord]) -> None:
    """Raise GateError if any figure exceeds its gate; all misses are listed."""
    missed = []
    for record in records:
        where = "" if record.provider == "none" else f" on {record.provider}"
        missed += [f"{artifact}{where}: {line}" for line in exceeded(record)]
    if missed:
        raise GateError("The export differs from PyTorch; no bundle was written.\n  " + "\n  ".join(missed))


def exceeded(record: ParityRecord) -> list[str]:
    """Lines for the figures that miss their gates."""
    missed = []
    for name, bound in record.gates.items():
        value, least = record.figures[name], name.startswith("min_")
        if not (value >= bound if least else value <= bound):  # NaN misses too
            missed.append(
                f"{name} is {value:.6g}, at {'least' if least else 'most'} {bound:g} is allowed "
                f"({record.cases}, against {record.reference})"
            )
    return missed


def text_parity(
    session: Session,
    provider: str,
    precision: str,
    model: CXRBertModel,
    tokenizer: Tokenizer,
    seed: int = 0,
    progress: Progress = lambda share: None,
) -> ParityRecord:
    """Compare a text graph with the reference on random ids of every batch size and length, and on sentences.

    Args:
        session: the opened graph.
        provider: what runs it.
        precision: of the artifact; picks the gates.
        model: the reference, in evaluation mode.
        tokenizer: the bundle's.
        seed: of the random ids.
        progress: called with the share done, 0 to 1.

    Returns:
        Figures: max_abs (largest difference of unit-norm embeddings), max_abs_unnormalized (of the others, relative to
        the largest value), min_cosine, max_abs_padding (a padded row against the same row alone), triplets_changed.
    """
    generator = np.random.default_rng(seed)
    longest = model.config.max_position_embeddings
    shapes = [(rows, length) for rows, length in _SHAPES if length <= longest]
    worst: dict[str, list[float]] = {"max_abs": [], "max_abs_unnormalized": [], "min_cosine": []}

    def run(rows: list[list[int]]) -> list[NDArray[np.float32]]:
        input_ids, attention_mask = pad_batch(rows, tokenizer.pad_token_id)
        outputs = ["text_embeds", "cls_projected_embedding"]
        return session.run(outputs, {"input_ids": input_ids, "attention_mask": attention_mask})

    def compare(rows: list[list[int]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        input_ids, attention_mask = pad_batch(rows, tokenizer.pad_token_id)
        projected = model.cls_projection(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        expected = torch.nn.functional.normalize(projected, dim=-1).numpy()
        found, found_projected = run(rows)
        worst["max_abs"].append(_max_abs(found, expected))
        worst["max_abs_unnormalized"].append(
            _max_abs(found_projected, projected.numpy()) / float(projected.abs().max())
        )
        worst["min_cosine"].append(_min_cosine(found, expected))
        return found, expected

    for index, (rows, length) in enumerate(shapes):
        lengths = [length, *generator.integers(3, length + 1, rows - 1)]
        compare([generator.integers(5, model.config.vocab_size, size).tolist() for size in lengths])
        progress(index / len(shapes))

    encoded = tokenizer.encode(SENTENCES)
    found, expected = compare(encoded)
    alone = np.concatenate([run([row])[0] for row in encoded])
    embeds = dict(zip(SENTENCES, zip(found, expected, strict=True), strict=True))
    changed = sum(_order(embeds, triplet, 1) and not _order(embeds, triplet, 0) for triplet in TRIPLETS)
    figures = _worst(worst) | {"max_abs_padding": _max_abs(found, alone), "triplets_changed": float(changed)}
    cases = (
        f"batches of 1, 2 and 7, lengths 3 to {longest} of random tokens; {len(SENTENCES)} sentences in one padded "
        f"batch and alone; {len(TRIPLETS)} triplets"
    )
    return _record(provider, precision, "PyTorch fp32 (transformers)", cases, figures)


def packed_parity(
    plain: Session, packed: Session, provider: str, precision: str, tokenizer: Tokenizer, vocab_size: int, seed: int = 0
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

    Returns:
        Figures: max_abs and min_cosine.
    """
    generator = np.random.default_rng(seed)
    lengths = [length for length in _PACKED_LENGTHS if length <= tokenizer.max_length]
    rows = [*tokenizer.encode(SENTENCES)]
    rows += [generator.integers(5, vocab_size, length).tolist() for length in lengths]
    found = np.empty((len(rows), plain.run(["text_embeds"], _feed([rows[0]], tokenizer))[0].shape[1]), np.float32)
    for batch in plan_packed([len(row) for row in rows], _PACKED_BUDGET, tokenizer.max_length):
        laid_out = pack_batch(batch, rows, tokenizer.pad_token_id)
        embeds = packed.run(["text_embeds"], laid_out.inputs)[0]
        found[laid_out.texts] = embeds[laid_out.row, laid_out.place]
    alone = np.concatenate([plain.run(["text_embeds"], _feed([row], tokenizer))[0] for row in rows])
    figures = {"max_abs": _max_abs(found, alone), "min_cosine": _min_cosine(found, alone)}
    cases = f"{len(SENTENCES)} sentences and {len(lengths)} random texts of {min(lengths)} to {max(lengths)} tokens"
    return _record(provider, f"packed {precision}", "the graph that takes a text a row", cases, figures)


def _feed(rows: list[list[int]], tokenizer: Tokenizer) -> dict[str, NDArray[np.int64]]:
    input_ids, attention_mask = pad_batch(rows, tokenizer.pad_token_id)
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def _order(
    embeds: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]], triplet: tuple[str, str, str], which: int
) -> bool:
    reference, synonym, contradiction = (embeds[text][which] for text in triplet)
    return bool(reference @ synonym > reference @ contradiction)


def image_parity(
    session: Session,
    provider: str,
    precision: str,
    model: BioViLImageModel,
    crop: int,
    seed: int = 0,
    progress: Progress = lambda share: None,
) -> ParityRecord:
    """Compare an image graph with the reference on phantoms, noise and extreme pixels, in batches of 1, 2 and 7.

    Args:
        session: the opened graph.
        provider: what runs it.
        precision: of the artifact; picks the gates.
        model: the reference, in evaluation mode.
        crop: side of the input in pixels.
        seed: of phantoms and noise.
        progress: called with the share done, 0 to 1.

    Returns:
        Figures: max_abs and min_cosine of the global embeddings, max_abs_patch and min_cosine_patch of the patches.
    """
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (2, crop, crop), dtype=np.uint8)
    bright_corner = np.zeros((crop, crop), dtype=np.uint8)
    bright_corner[:8, :8] = 255
    phantoms = [
        chest_phantom(crop, crop, seed + index, tuple(generator.uniform(0.25, 0.75, 2)) if index % 2 else None)
        for index in range(sum(_IMAGE_BATCHES) - 4)
    ]
    pixels = np.stack([*phantoms, *noise, bright_corner, np.full((crop, crop), 255, dtype=np.uint8)])
    figures: dict[str, list[float]] = {"max_abs": [], "min_cosine": [], "max_abs_patch": [], "min_cosine_patch": []}
    start = 0
    for size in _IMAGE_BATCHES:
        batch = pixels[start : start + size]
        start += size
        channels = torch.from_numpy(batch).float().div(255)[:, None].expand(-1, 3, -1, -1)
        expected_global, expected_patch = (value.numpy() for value in model(channels))
        found_global, found_patch = session.run(["image_embeds", "patch_embeds"], {"pixel_values": batch})
        figures["max_abs"].append(_max_abs(found_global, expected_global))
        figures["min_cosine"].append(_min_cosine(found_global, expected_global))
        figures["max_abs_patch"].append(_max_abs(found_patch, expected_patch))
        figures["min_cosine_patch"].append(_min_cosine(found_patch, expected_patch))
        progress(start / len(pixels))
    cases = f"batches of 1, 2 and 7: {len(phantoms)} phantoms, noise and extreme pixels, {crop} × {crop}"
    return _record(provider, precision, "PyTorch fp32 (torchvision)", cases, _worst(figures))


def _record(provider: str, precision: str, reference: str, cases: str, figures: dict[str, float]) -> ParityRecord:
    gates = {name: float(bound) for name, bound in GATES[precision].items() if name in figures}
    return ParityRecord(provider, reference, cases, figures, gates)


def _worst(figures: Mapping[str, list[float]]) -> dict[str, float]:
    """Largest of what should be small, smallest of what should be large; numpy's, which do not lose NaN."""
    return {name: float(np.max(each) if name.startswith("max") else np.min(each)) for name, each in figures.items()}


def _max_abs(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max())


def _min_cosine(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    products = np.sum(found.astype(np.float64) * expected, axis=-1)
    norms = np.linalg.norm(found.astype(np.float64), axis=-1) * np.linalg.norm(expected.astype(np.float64), axis=-1)
    return float((products / norms).min())
