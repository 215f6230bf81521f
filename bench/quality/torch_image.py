"""The image network in PyTorch, on the weights that a bundle was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.families import FAMILIES, Family
from runtime.engine import Engine
from runtime.errors import InputError
from runtime.files import sha256_file

__all__ = ["check_weights", "family_of", "load_image_network", "torch_images"]

_STAGES = (1, 2, 3, 4)


def torch_images(engine: Engine, checkpoint: Path, threads: int) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Paths → float32 (N, 128), unit L2 norm, by PyTorch in fp32, one by one, of the same pixels that the engine reads.

    Raises:
        InputError: see `check_weights`.
        CheckpointError: weights are missing or cannot be read.
    """
    import torch

    torch.set_num_threads(threads)
    network = load_image_network(engine, checkpoint)

    def encode(paths: Sequence[str]) -> NDArray[np.float32]:
        found = []
        for path in paths:
            (pixels,), _ = engine.image.load([path])
            found.append(network.embed(pixels.pixels[None])[0])
        return np.concatenate(found)

    return encode


def load_image_network(engine: Engine, checkpoint: Path) -> Any:
    """The image reference with a checkpoint's weights, as deep as they are.

    Raises:
        InputError: see `check_weights`.
        CheckpointError: weights are missing or cannot be read.
    """
    from export.checkpoints import ExpectedTensors, fit_tensors, read_tensors
    from export.errors import CheckpointError
    from export.reference import build_image_model, hi_ml_image

    image = family_of(engine).image
    assert image is not None, "an engine with an image part"
    check_weights(engine, checkpoint)
    if not (checkpoint / image.weights_name).is_file():
        raise CheckpointError(f"{checkpoint} has no {image.weights_name}, the weights of the image network.")
    tensors = read_tensors(checkpoint / image.weights_name)
    image = replace(image, blocks=tuple(_blocks(list(tensors), stage) for stage in _STAGES))
    network = build_image_model(image)
    expected = {"image": ExpectedTensors(network.state_dict(), image.harmless)}
    network.load_state_dict(fit_tensors({"image": tensors}, expected)["image"], strict=False)
    return hi_ml_image(network, replace(image, preprocessing=engine.image.preprocessing))


def family_of(engine: Engine) -> Family:
    """The entry of `export.families` for a bundle; one that is not listed there has the shape of BioViL."""
    return FAMILIES.get(engine.manifest.family, FAMILIES["biovil"])


def check_weights(engine: Engine, checkpoint: Path) -> None:
    """Make sure that a checkpoint is the one that a bundle was made of, or at least one of its parts.

    Raises:
        InputError: no such folder, none of the files of weights, or other ones; all of them are named.
    """
    weights = engine.manifest.source.weights
    there = [name for name in weights if (checkpoint / name).is_file()]
    other = [name for name in there if sha256_file(checkpoint / name) != weights[name]] if there else [*weights]
    if other:
        raise InputError(
            f"{checkpoint} does not hold the weights that the bundle was made of ({', '.join(other)}); with others "
            "nothing can be compared. Give the checkpoint that was exported."
        )


def _blocks(names: Sequence[str], stage: int) -> int:
    """Blocks of a stage of the network, by the names of its weights."""
    start = f"encoder.encoder.layer{stage}."
    return 1 + max((int(name.removeprefix(start).split(".")[0]) for name in names if name.startswith(start)), default=0)
