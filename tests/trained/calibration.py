"""Data of the kind that the models were trained on, to calibrate quantizers with and judge them by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.trained.cases import held_out_cases
from tests.trained.wordings import CLASSES, make_caption

__all__ = ["write_captions", "write_images"]


def write_captions(file: Path, count: int = 640, seed: int = 1) -> Path:
    """Write a text file with so many captions, a line each, all different; returns it."""
    rng = np.random.default_rng(seed)
    captions: dict[str, None] = {}
    while len(captions) < count:
        captions |= {make_caption(rng, *each): None for each in CLASSES}
    file.write_text("".join(f"{caption}\n" for caption in [*captions][:count]), encoding="utf-8")
    return file


def write_images(folder: Path, count: int = 160, seed: int = 1) -> Path:
    """Write so many PNG files, 0000.png and so on; returns the folder. Other seeds of `held_out_cases` give others."""
    folder.mkdir()
    for index, case in enumerate(held_out_cases(count, seed)):
        Image.fromarray(case.image).save(folder / f"{index:04}.png")
    return folder
