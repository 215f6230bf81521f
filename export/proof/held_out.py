"""What held-out data is judged by: embeddings of the fp32 graph, some of them compared with PyTorch's.

The graph has been compared with PyTorch on fixed cases before, within 1e-5, and takes a third of the time: with PyTorch
this was the second longest step of an export with int8, 146 of 750 seconds of processor time for 300 texts of CXR-BERT.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from export.proof.fidelity import IMAGE_OUTPUTS, image_feeds
from export.proof.parity import GATES, Progress, check_gates, max_abs, min_cosine, parity_record
from export.reference import AnyText, ImageReference
from runtime.bundle import ParityRecord
from runtime.engines import Session
from runtime.text import pad_batch, plan_batches

__all__ = ["held_out_images", "held_out_texts"]

_TOKEN_BUDGET = 1024
# Compared with PyTorch: texts from the shortest to the longest, and the first images.
_COMPARED_TEXTS = 16
_COMPARED_IMAGES = 4

Embeds = NDArray[np.float32]


def held_out_texts(
    session: Session,
    provider: str,
    reference: AnyText,
    rows: Sequence[list[int]],
    pad_token_id: int,
    progress: Progress = lambda share: None,
) -> tuple[Embeds, ParityRecord]:
    """Embed texts with the fp32 graph, and a few of them with PyTorch as well.

    Args:
        session: the fp32 graph, opened.
        provider: what runs it.
        reference: upstream's model.
        rows: token ids.
        pad_token_id: fills batches.
        progress: called with the share done, 0 to 1.

    Returns:
        float32 (N, D), unit norm, and the comparison.

    Raises:
        GateError: the graph differs from PyTorch by more than 1e-5.
    """
    found = np.empty((len(rows), reference.size), np.float32)
    done = 0
    for batch in plan_batches([len(row) for row in rows], _TOKEN_BUDGET):
        input_ids, attention_mask = pad_batch([rows[index] for index in batch], pad_token_id)
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        (found[batch],) = session.run(["text_embeds"], feed)
        done += len(batch)
        progress(done / len(rows))
    by_length = np.argsort([len(row) for row in rows], kind="stable")
    chosen = by_length[np.unique(np.linspace(0, len(rows) - 1, _COMPARED_TEXTS).round().astype(int))]
    expected = np.empty((len(chosen), reference.size), np.float32)
    for place, index in enumerate(chosen):
        ids = torch.tensor([rows[index]])
        embedded = reference.embed(ids, torch.ones_like(ids))
        expected[place] = torch.nn.functional.normalize(embedded, dim=-1)[0].numpy()
    shortest, longest = len(rows[chosen[0]]), len(rows[chosen[-1]])
    cases = f"{len(chosen)} of the {len(rows)} held-out texts, {shortest} to {longest} tokens"
    figures = {"max_abs": max_abs(found[chosen], expected), "min_cosine": min_cosine(found[chosen], expected)}
    return found, _checked("text", provider, reference.name, cases, figures)


def held_out_images(
    session: Session,
    provider: str,
    reference: ImageReference,
    pixels: NDArray[np.uint8],
    outputs: Sequence[str] = IMAGE_OUTPUTS,
    progress: Progress = lambda share: None,
    previous: NDArray[np.uint8] | None = None,
) -> tuple[tuple[Embeds, ...], ParityRecord]:
    """Embed images with the fp32 graph, and a few of them with PyTorch as well.

    Args:
        session: the fp32 graph, opened.
        provider: what runs it.
        reference: upstream's model.
        pixels: uint8 (N, …), see `Preprocessing.shape`.
        outputs: the graph's, of `IMAGE_OUTPUTS`.
        progress: called with the share done, 0 to 1.
        previous: pixels of the previous images, for a graph of pairs.

    Returns:
        Global float32 (N, D) and, of patches, (N, rows, columns, D), unit norm; and the comparison.

    Raises:
        GateError: the graph differs from PyTorch by more than 1e-5.
    """
    parts = []
    feeds = image_feeds(pixels, previous)
    for index in range(len(pixels)):
        parts.append(session.run(list(outputs), {name: each[index : index + 1] for name, each in feeds.items()}))
        progress((index + 1) / len(pixels))
    found = tuple(np.concatenate(each) for each in zip(*parts, strict=True))
    compared = pixels[:_COMPARED_IMAGES]
    before = None if previous is None else previous[:_COMPARED_IMAGES]
    expected = reference.embed(compared, before)[: len(outputs)]
    figures = {}
    for ending, one, other in zip(("", "_patch"), found, expected, strict=False):
        assert other is not None, "patches are asked for where there is a grid"
        figures[f"max_abs{ending}"] = max_abs(one[: len(compared)], other)
        figures[f"min_cosine{ending}"] = min_cosine(one[: len(compared)], other)
    cases = f"{len(compared)} of the {len(pixels)} held-out images"
    cases += "" if previous is None else ", each with another one as its previous image"
    return found, _checked("image", provider, reference.name, cases, figures)


def _checked(part: str, provider: str, reference: str, cases: str, figures: dict[str, float]) -> ParityRecord:
    record = parity_record(provider, reference, cases, figures, GATES["fp32"])
    check_gates(f"{part} fp32, held-out data", [record])
    return record
