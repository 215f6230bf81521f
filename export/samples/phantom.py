"""Synthetic radiographs of our own: for parity checks, tests and the demo, where no patient's image may ship."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["chest_phantom"]


def chest_phantom(
    height: int, width: int, seed: int = 0, opacity: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Draw something with the grey levels and the large shapes of a frontal chest radiograph.

    Args:
        height: in pixels.
        width: in pixels.
        seed: varies proportions, ribs and noise.
        opacity: centre of a dense, soft-edged shadow as fractions of height and width from the top left; None for none.

    Returns:
        uint8 (height, width), bright where X-rays are absorbed (bone, heart), dark in the lungs.
    """
    rng = np.random.default_rng(seed)
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None, :]

    def ellipse(cy: float, cx: float, ry: float, rx: float, softness: float = 0.12) -> NDArray[np.float64]:
        distance = np.sqrt(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2)
        return 1 / (1 + np.exp((distance - 1) / softness))

    wobble = rng.uniform(-0.04, 0.04, 8)
    body = ellipse(0.25, 0, 1.25, 0.95, 0.04)
    lungs = ellipse(-0.05 + wobble[0], -0.43 + wobble[1], 0.66, 0.33) + ellipse(-0.05, 0.45 + wobble[2], 0.64, 0.30)
    lungs = np.clip(lungs, 0, 1)
    heart = ellipse(0.28 + wobble[3], 0.14 + wobble[4], 0.34, 0.34 + wobble[5], 0.09)
    spine = np.exp(-((x / 0.09) ** 2)) * np.ones_like(y)
    diaphragm = 1 / (1 + np.exp(-(y - 0.62 - 0.18 * np.cos(2.6 * x + wobble[6])) / 0.02))
    ribs = np.zeros((height, width))
    for index in range(9):
        curve = y - (-0.78 + 0.17 * index) - 0.32 * (np.abs(x) - 0.35) ** 2 + 0.1 * np.abs(x)
        ribs += np.exp(-((curve / 0.022) ** 2))
    clavicles = np.exp(-(((y + 0.72 + 0.2 * np.abs(x)) / 0.03) ** 2)) * (np.abs(x) < 0.75)
    image = 0.06 + 0.55 * body - 0.36 * lungs * (1 - diaphragm) * (1 - 0.8 * heart)
    image += body * (0.24 * heart + 0.16 * spine + 0.10 * np.clip(ribs, 0, 1) + 0.12 * clavicles + 0.18 * diaphragm)
    if opacity is not None:
        image += 0.30 * body * ellipse(2 * opacity[0] - 1, 2 * opacity[1] - 1, 0.16, 0.13, 0.3)
    image += rng.normal(0, 0.012, image.shape)
    pixels: NDArray[np.uint8] = np.clip(image * 255, 0, 255).astype(np.uint8)
    return pixels
