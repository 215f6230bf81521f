"""The reference of systems that no package runs: upstream's classes, from a checkpoint and its bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import runtime
from bench.peers import PEERS
from export.samples import chest_phantom
from tests.conftest import System

TEXTS = ["No pleural effusion.", "Pneumonia", "Small effusion!?", "There is no pneumothorax and no fracture. " * 9]


def test_texts_and_images_are_this_engines(tiny: System, tmp_path: Path) -> None:
    """Of a system that hi-ml-multimodal runs as well; orders are the negative control."""
    engine = runtime.load(tiny.bundle, provider="cpu", precision="fp32")
    spec = {"bundle": str(tiny.bundle), "checkpoint": str(tiny.checkpoint), "threads": 1}
    found = PEERS["upstream"]["texts"](spec)({"texts": TEXTS})()
    expected = engine.text.encode(TEXTS)
    assert np.abs(found - expected).max() <= 1e-5 < np.abs(found[::-1] - expected).max()
    pixels = np.stack([chest_phantom(96, 96, seed) for seed in range(2)])
    np.save(tmp_path / "pixels.npy", pixels)
    embeds = PEERS["upstream"]["images"](spec)({"pixels": str(tmp_path / "pixels.npy")})()
    assert np.abs(embeds - engine.image.encode_pixels(pixels)).max() <= 1e-5 < np.abs(embeds[0] - embeds[1]).max()


@pytest.mark.slow
def test_files_of_a_clip(clips: Mapping[str, System], tmp_path: Path) -> None:
    from PIL import Image

    system = clips["clip"]
    Image.fromarray(chest_phantom(90, 120, 0)).save(tmp_path / "film.png")
    spec = {"bundle": str(system.bundle), "checkpoint": str(system.checkpoint), "threads": 1}
    found = PEERS["upstream"]["images"](spec)({"images": [str(tmp_path / "film.png")]})()
    expected = runtime.load(system.bundle, provider="cpu", precision="fp32", parts=["image"]).image.encode(
        [str(tmp_path / "film.png")]
    )
    assert np.abs(found - expected).max() <= 1e-5
