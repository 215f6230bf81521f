"""Compare image graphs with the reference."""

from __future__ import annotations

import numpy as np
import torch

from export.proof.parity import Progress, max_abs, min_cosine, parity_record, worst
from export.reference import BioViLImageModel
from export.samples import chest_phantom
from runtime.bundle import ParityRecord
from runtime.engines import Session

__all__ = ["image_parity"]

_BATCHES = (1, 2, 7)


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
        for index in range(sum(_BATCHES) - 4)
    ]
    pixels = np.stack([*phantoms, *noise, bright_corner, np.full((crop, crop), 255, dtype=np.uint8)])
    figures: dict[str, list[float]] = {"max_abs": [], "min_cosine": [], "max_abs_patch": [], "min_cosine_patch": []}
    start = 0
    for size in _BATCHES:
        batch = pixels[start : start + size]
        start += size
        channels = torch.from_numpy(batch).float().div(255)[:, None].expand(-1, 3, -1, -1)
        expected_global, expected_patch = (value.numpy() for value in model(channels))
        found_global, found_patch = session.run(["image_embeds", "patch_embeds"], {"pixel_values": batch})
        figures["max_abs"].append(max_abs(found_global, expected_global))
        figures["min_cosine"].append(min_cosine(found_global, expected_global))
        figures["max_abs_patch"].append(max_abs(found_patch, expected_patch))
        figures["min_cosine_patch"].append(min_cosine(found_patch, expected_patch))
        progress(start / len(pixels))
    cases = f"batches of 1, 2 and 7: {len(phantoms)} phantoms, noise and extreme pixels, {crop} × {crop}"
    return parity_record(provider, precision, "PyTorch fp32 (torchvision)", cases, worst(figures))
