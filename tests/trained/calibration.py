"""Data of the kind that the models were trained on, to calibrate quantizers with and judge them by."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.trained.cases import Case, held_out_cases
from tests.trained.wordings import CLASSES, FINDINGS, absence_prompts, finding_prompts, make_caption

__all__ = ["PROMPTS", "write_captions", "write_images", "write_labels", "write_prompts"]

# Finding → prompts that affirm it and prompts that deny it.
PROMPTS = {finding: (finding_prompts()[finding], absence_prompts()[finding]) for finding in FINDINGS}


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


def write_prompts(file: Path) -> Path:
    """Write `PROMPTS` as a JSON file that `classify` reads; returns it."""
    sides = ("positive", "negative")
    file.write_text(json.dumps({name: dict(zip(sides, each, strict=True)) for name, each in PROMPTS.items()}))
    return file


def write_labels(file: Path, cases: Sequence[Case]) -> Path:
    """Write which finding each case shows as a CSV file, for images 0000.png and so on; returns it."""
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", *FINDINGS])
        rows.writerows(
            [f"{index:04}", *(int(case.finding == finding) for finding in FINDINGS)] for index, case in enumerate(cases)
        )
    return file
