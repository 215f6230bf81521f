"""A file → the pixels that the networks read: by the reference's functions, or by plain Pillow as those know it who
care for time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOADERS", "PILLOW", "REFERENCE", "Load", "loaded_ahead"]

Load = Callable[[Path], NDArray[np.uint8]]

# What a worker is told as "loading".
REFERENCE, PILLOW = "reference", "pillow"
_RESIZE, _CROP = 512, 480
_WHITE = 255


def _by_reference() -> Load:
    """Its min–max remap in float64, and its transforms."""
    from health_multimodal.image.data.io import load_image
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference

    transform = create_chest_xray_transform_for_inference(_RESIZE, _CROP)

    def load(path: Path) -> NDArray[np.uint8]:
        # It divides by 255; undone without loss.
        pixels: NDArray[np.uint8] = (transform(load_image(path))[:1].numpy() * _WHITE).round().astype(np.uint8)
        return pixels

    return load


def _by_pillow() -> Load:
    """Grey, stretched by a table of 256 entries, resized and cropped, all in 8 bits: the same pixels."""
    from PIL import Image

    def load(path: Path) -> NDArray[np.uint8]:
        image: Image.Image = Image.open(path)
        values = np.ravel(image.getextrema())  # of each channel the least and the greatest
        low, high = int(values.min()), int(values.max())
        if (low, high) != (0, _WHITE):
            # In the order of the reference's operations, or single values would be off by one.
            table = (np.clip(np.arange(_WHITE + 1) - low, 0, high - low) / (high - low) * _WHITE).astype(np.uint8)
            image = image.point(table.tolist() * len(image.getbands()))
        image = image if image.mode == "L" else image.convert("L")
        width, height = image.size
        short, long = min(image.size), int(_RESIZE * max(image.size) / min(image.size))
        if short != _RESIZE:
            image = image.resize((_RESIZE, long) if width <= height else (long, _RESIZE), Image.Resampling.BILINEAR)
        left, top = (round((side - _CROP) / 2) for side in image.size)
        return np.asarray(image.crop((left, top, left + _CROP, top + _CROP)))[None]

    return load


# How files are loaded → what makes a function from a file to uint8 (1, side, side).
LOADERS: Mapping[str, Callable[[], Load]] = {REFERENCE: _by_reference, PILLOW: _by_pillow}


def loaded_ahead(load: Load, paths: Sequence[Path], threads: int) -> Iterator[NDArray[np.uint8]]:
    """Files in order, decoded on other threads while the caller computes."""
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(load, paths)
