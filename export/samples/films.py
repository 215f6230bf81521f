"""Synthetic radiographs of many kinds: to calibrate and judge quantization where no patient's image may ship."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from export.samples.phantom import chest_phantom

__all__ = ["varied_films"]

# Shares of the films that have each.
_OPACITY = 0.55
_LANDSCAPE = 0.15
_DEVICES = 0.4
_MARKER = 0.5
_COLLIMATED = 0.45
_WHITE_BORDER = 0.4


def varied_films(resize: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Chest phantoms without end, as different scanners, technicians and patients would make them.

    They differ in size, proportions, tilt, margins, sharpness, noise, brightness, contrast and gamma, in shadows, tubes
    and wires, in letters of lead, and in borders of the collimator, black or (as after inversion) white.

    Args:
        resize: length of the shorter side that the model's images are resized to; theirs is 0.6 to 1.25 times that.
        seed: the same seed gives the same films.

    Yields:
        uint8 (H, W), not constant.
    """
    rng = np.random.default_rng(seed)
    while True:
        short = resize * rng.uniform(0.7, 1.25)
        long = short * rng.uniform(1.0, 1.25)
        height, width = (short, long) if rng.random() < _LANDSCAPE else (long, short)
        opacity = (rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.85)) if rng.random() < _OPACITY else None
        phantom = chest_phantom(round(height), round(width), int(rng.integers(2**31)), opacity)
        film = _position(Image.fromarray(phantom), rng)
        if rng.random() < _DEVICES:
            _add_devices(film, rng)
        film = film.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5) * short / 512))
        film = _expose(film, rng)
        _add_lead(film, rng)
        yield np.asarray(film)


def _position(film: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Tilt the patient and cut margins off."""
    width, height = film.size
    film = film.rotate(rng.normal(0, 2.5), Image.Resampling.BILINEAR, fillcolor=int(rng.integers(30)))
    left, top, right, bottom = rng.uniform(0, 0.08, 4)
    return film.crop(
        (round(left * width), round(top * height), round(width * (1 - right)), round(height * (1 - bottom)))
    )


def _add_devices(film: Image.Image, rng: np.random.Generator) -> None:
    """Draw tubes and wires, brighter than the tissue, and electrodes at the end of some."""
    draw = ImageDraw.Draw(film)
    width, height = film.size
    for _ in range(int(rng.integers(1, 4))):
        x = width * (rng.uniform(0.15, 0.85) + np.cumsum(rng.normal(0, 0.04, 8)))
        y = height * np.linspace(rng.uniform(-0.05, 0.2), rng.uniform(0.35, 0.95), 8)
        brightness = int(rng.integers(150, 250))
        thickness = max(1, round(width * rng.uniform(0.002, 0.012)))
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=brightness, width=thickness)
        if rng.random() < 0.4:
            radius = width * rng.uniform(0.01, 0.03)
            draw.ellipse((x[-1] - radius, y[-1] - radius, x[-1] + radius, y[-1] + radius), fill=brightness)


def _expose(film: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change gamma, contrast and brightness, and add the grain of a low dose."""
    gamma, contrast, brightness = rng.uniform(0.55, 1.7), rng.uniform(0.7, 1.4), rng.uniform(-0.15, 0.1)
    curve = np.clip((np.linspace(0, 1, 256) ** gamma) * contrast + brightness, 0, 1) * 255
    grain = np.rint(rng.normal(0, rng.uniform(0, 6), (film.height, film.width)))
    return Image.fromarray(np.clip(np.rint(curve)[np.asarray(film)] + grain, 0, 255).astype(np.uint8))


def _add_lead(film: Image.Image, rng: np.random.Generator) -> None:
    """Draw the letter of the side, and cover the edges as the collimator does."""
    draw = ImageDraw.Draw(film)
    width, height = film.size
    if rng.random() < _MARKER:
        size = width * rng.uniform(0.02, 0.05)
        x, y = width * rng.choice([0.08, 0.85]), height * rng.uniform(0.05, 0.15)
        draw.rectangle((x, y, x + size / 3, y + size), fill=255)
        draw.rectangle((x, y + size * 0.7, x + size, y + size), fill=255)
    if rng.random() < _COLLIMATED:
        left, top, right, bottom = rng.uniform(-0.04, 0.09, 4)
        fill = 255 if rng.random() < _WHITE_BORDER else 0
        inside = (width * left, height * top, width * (1 - right), height * (1 - bottom))
        mask = Image.new("1", film.size, 1)
        ImageDraw.Draw(mask).rectangle(inside, fill=0)
        film.paste(fill, mask=mask)
