"""The image network in PyTorch, on the weights that a bundle was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.peers.references import load_reference
from runtime.engine import Engine

__all__ = ["torch_images"]


def torch_images(engine: Engine, checkpoint: Path, threads: int) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Paths → float32 (N, D), unit L2 norm, by PyTorch in fp32, one by one, of the same pixels that the engine reads.

    Raises:
        InputError: the checkpoint holds other weights than the bundle was made of.
        CheckpointError: weights are missing or cannot be read.
    """
    import torch

    torch.set_num_threads(threads)
    network = load_reference(engine.manifest, checkpoint, "image").model

    def encode(paths: Sequence[str]) -> NDArray[np.float32]:
        found = []
        for path in paths:
            (pixels,), _ = engine.image.load([path])
            found.append(network.embed(pixels.pixels[None])[0])
        return np.concatenate(found)

    return encode
