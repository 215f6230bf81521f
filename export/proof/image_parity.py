"""Compare image graphs with the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.proof.fidelity import IMAGE_OUTPUTS, image_feeds, other_images
from export.proof.parity import GATES, Progress, max_abs, min_cosine, parity_record, worst
from export.reference import ImageReference
from export.samples import chest_phantom
from runtime.bundle import ParityRecord
from runtime.bundle.parts import Preprocessing
from runtime.engines import Session

__all__ = ["image_parity"]

_BATCHES = (1, 2, 7)
_PHANTOMS = sum(_BATCHES) - 4


def image_parity(
    session: Session,
    provider: str,
    precision: str,
    reference: ImageReference,
    seed: int = 0,
    progress: Progress = lambda share: None,
    *,
    outputs: Sequence[str] = IMAGE_OUTPUTS,
    paired: bool = False,
) -> ParityRecord:
    """Compare an image graph with the reference on phantoms, noise and extreme pixels, in batches of 1, 2 and 7.

    Args:
        session: the opened graph.
        provider: what runs it.
        precision: of the artifact; picks the gates.
        reference: upstream's model.
        seed: of phantoms and noise.
        progress: called with the share done, 0 to 1.
        outputs: the graph's, of `IMAGE_OUTPUTS`; patches only where the reference embeds any.
        paired: whether each has another of them as its previous image, for a graph of pairs.

    Returns:
        Figures: max_abs and min_cosine of the global embeddings; max_abs_patch and min_cosine_patch of the patches, if
        it embeds any.
    """
    rule = reference.rule
    pixels = _pixels(rule, seed)
    outputs = tuple(outputs) if reference.grid else IMAGE_OUTPUTS[:1]
    others = other_images(pixels) if paired else None
    figures: dict[str, list[float]] = defaultdict(list)
    start = 0
    for size in _BATCHES:
        batch = pixels[start : start + size]
        previous = None if others is None else others[start : start + size]
        start += size
        found = session.run(list(outputs), image_feeds(batch, previous))
        expected = reference.embed(batch, previous)[: len(outputs)]
        for ending, one, other in zip(("", "_patch")[: len(outputs)], found, expected, strict=True):
            assert other is not None, "patches are asked for where there is a grid"
            figures[f"max_abs{ending}"].append(max_abs(one, other))
            figures[f"min_cosine{ending}"].append(min_cosine(one, other))
        progress(start / len(pixels))
    cases = f"batches of 1, 2 and 7: {_PHANTOMS} phantoms, noise and extreme pixels, {rule.crop} × {rule.crop}"
    cases += ", each with another one as its previous image" if paired else ""
    return parity_record(provider, reference.name, cases, worst(figures), GATES.get(precision, {}))


def _pixels(rule: Preprocessing, seed: int) -> NDArray[np.uint8]:
    """Phantoms, noise, a bright corner and white; colours differ from channel to channel."""
    generator, crop = np.random.default_rng(seed), rule.crop
    noise = generator.integers(0, 256, (2, *rule.shape), dtype=np.uint8)
    bright_corner = np.zeros(rule.shape, dtype=np.uint8)
    bright_corner[..., :8, :8] = 255
    phantoms = [
        chest_phantom(crop, crop, seed + index, tuple(generator.uniform(0.25, 0.75, 2)) if index % 2 else None)
        for index in range(_PHANTOMS)
    ]
    if len(rule.shape) > 2:
        phantoms = [np.stack([each, 255 - each, each[::-1]]) for each in phantoms]
    return np.stack([*phantoms, *noise, bright_corner, np.full(rule.shape, 255, dtype=np.uint8)])
