"""Similarity maps by PyTorch and the reference package, on the weights that a bundle was made of."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.peers import PEERS
from bench.quality.ms_cxr_scores import Maps
from runtime.bundle import sha256_file
from runtime.engine import Engine
from runtime.errors import InputError

__all__ = ["torch_maps"]

_STAGES = (1, 2, 3, 4)


def torch_maps(engine: Engine, checkpoint: Path, phrases: Sequence[str], threads: int) -> Maps:
    """Maps by PyTorch in fp32, of the same pixels that the engine computes.

    The image network is `export.models`' with the checkpoint's weights, the text network as in `bench.peers`; patches,
    smoothing and enlargement are the reference package's own (`ImageTextInferenceEngine`).

    Args:
        engine: reads the images, so that both see the same.
        checkpoint: folder with the weights of the engine's bundle.
        phrases: all that will be asked for; they are embedded at once.
        threads: of PyTorch.

    Raises:
        InputError: the checkpoint has other weights than the bundle was made of.
        CheckpointError: weights are missing or cannot be read.
    """
    import torch

    with warnings.catch_warnings():  # of a package that the reference package imports
        warnings.simplefilter("ignore")
        from health_multimodal.vlp import ImageTextInferenceEngine as Reference

    from export.checkpoints import ExpectedTensors, fit_tensors, read_tensors
    from export.errors import CheckpointError
    from export.families import FAMILIES
    from export.models import BioViLImageModel

    image = FAMILIES[engine.manifest.family].image
    assert image is not None, "an engine with an image part"
    _check_weights(engine, checkpoint)
    if not (checkpoint / image.weights_name).is_file():
        raise CheckpointError(f"{checkpoint} has no {image.weights_name}, the weights of the image network.")
    torch.set_num_threads(threads)
    tensors = read_tensors(checkpoint / image.weights_name)
    first, second, third, fourth = (_blocks(list(tensors), stage) for stage in _STAGES)
    network = BioViLImageModel(replace(image, blocks=(first, second, third, fourth)))
    expected = {"image": ExpectedTensors(network.state_dict(), image.harmless)}
    network.load_state_dict(fit_tensors({"image": tensors}, expected)["image"], strict=False)
    network.eval()
    encoder = engine.image
    texts = list(dict.fromkeys(phrases))
    spec = {"checkpoint": str(checkpoint), "threads": threads, "texts": texts}
    text_embeds = dict(zip(texts, torch.from_numpy(PEERS["torch fp32 texts"](spec)()), strict=True))

    def maps(file: Path, phrases: Sequence[str]) -> list[NDArray[np.float32]]:
        (pixels,), _ = encoder.load([file])
        width, height = pixels.size
        grey = torch.from_numpy(pixels.pixels.astype(np.float32) / 255)
        with torch.inference_mode():
            patches = network(grey.expand(1, 3, -1, -1))[1][0].contiguous()
        return [
            Reference.convert_similarity_to_image_size(
                Reference._get_similarity_map_from_embeddings(patches, text_embeds[phrase][None]),
                width=width,
                height=height,
                resize_size=encoder.resize,
                crop_size=encoder.crop,
            )
            for phrase in phrases
        ]

    return maps


def _blocks(names: Sequence[str], stage: int) -> int:
    """Blocks of a stage of the network, by the names of its weights."""
    start = f"encoder.encoder.layer{stage}."
    return 1 + max((int(name.removeprefix(start).split(".")[0]) for name in names if name.startswith(start)), default=0)


def _check_weights(engine: Engine, checkpoint: Path) -> None:
    weights = engine.manifest.source.weights
    other = [name for name in weights if (file := checkpoint / name).is_file() and sha256_file(file) != weights[name]]
    if other:
        raise InputError(
            f"{checkpoint} holds other weights than the bundle was made of ({', '.join(other)}); with them nothing can "
            "be compared. Give the checkpoint that was exported."
        )
