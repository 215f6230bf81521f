"""What LoadGen's queries are about: texts or images for the runtime's public `encode`.

MLPerf has no radiographs and no embeddings; what it fixes elsewhere is chosen here. Samples lie in memory before they
are asked for, as its rules have it: strings as they are, images as decoded grey values, 1024 × 1024 as in ChestX-ray14
and RSNA's pneumonia challenge. Tokenization, resizing and cropping are inside the timed region; decoding files is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from runtime.engine import Engine

__all__ = ["SYSTEMS", "Encode", "System"]

Encode = Callable[[Sequence[Any]], NDArray[np.float32]]

_SIDE = 1024
_PHANTOM_SIDE = 256
_PHANTOMS = 8
# Of a phantom's side, at most, so that no two images show the same.
_MARGIN = 24
_NOISE = 2.0


@dataclass(frozen=True)
class System:
    """A part of a bundle as LoadGen sees it.

    Attributes:
        unit: what samples are.
        samples: in the library.
        judged: of them, in accuracy mode of a short run.
        bulk: in one call of Offline.
        waiting: in one call of Server, at most.
        warm: to warm up with and to measure the pace: enough for the session for bulk work.
        bound_seconds: of Server's 99th percentile, unless another is given.
        library: (engine, count, seed) → different samples.
        encode: engine → its public method.
    """

    unit: str
    samples: int
    judged: int
    bulk: int
    waiting: int
    warm: int
    bound_seconds: float
    library: Callable[[Engine, int, int], list[Any]]
    encode: Callable[[Engine], Encode]


def _texts(engine: Engine, count: int, seed: int) -> list[str]:
    from bench.workloads.corpus import report_texts

    return report_texts(count, seed, engine.text.tokenizer)


def _images(engine: Engine, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """uint8 (1024, 1024) each: parts of a few phantoms, enlarged, with noise."""
    from export.samples import chest_phantom

    rng = np.random.default_rng(seed)
    phantoms = [chest_phantom(_PHANTOM_SIDE, _PHANTOM_SIDE, seed + number) for number in range(_PHANTOMS)]
    images = []
    for number in range(count):
        top, left, bottom, right = rng.integers(0, _MARGIN, 4)
        part = phantoms[number % _PHANTOMS][top : _PHANTOM_SIDE - bottom, left : _PHANTOM_SIDE - right]
        large = np.asarray(Image.fromarray(part).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), np.float32)
        noisy = large + rng.standard_normal(large.shape, np.float32) * _NOISE
        images.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return images


SYSTEMS: Mapping[str, System] = MappingProxyType(
    {
        # The bound is that of MLPerf's BERT, whose texts are longer.
        "text": System("texts", 512, 64, 512, 32, 192, 0.130, _texts, lambda engine: engine.text.encode),
        # MLPerf bounds ResNet-50 at 224 × 224 by 15 ms and RetinaNet at 800 × 800 by 100 ms, on servers. One image
        # takes 25 to 200 ms on two cores, and half a second is what a reader hardly waits for.
        "image": System("images", 32, 16, 32, 8, 16, 0.500, _images, lambda engine: engine.image.encode),
    }
)
