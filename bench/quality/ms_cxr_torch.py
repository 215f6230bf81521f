"""Similarity maps by PyTorch and the reference package, on the weights that a bundle was made of."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.peers.references import load_reference
from bench.quality.ms_cxr_scores import Maps
from bench.quality.torch_text import torch_texts
from runtime.engine import Engine
from runtime.errors import InputError
from runtime.tasks.joint import map_to_image

__all__ = ["torch_maps"]


def torch_maps(engine: Engine, checkpoint: Path, phrases: Sequence[str], threads: int) -> Maps:
    """Maps by PyTorch in fp32, of the same pixels that the engine computes.

    Smoothing is the reference package's own (`ImageTextInferenceEngine`), and enlargement too where images are resized
    and cropped as it does.

    Args:
        engine: reads the images, so that both see the same.
        checkpoint: folder with the weights of the engine's bundle.
        phrases: all that will be asked for; they are embedded at once.
        threads: of PyTorch.

    Raises:
        InputError: the checkpoint has other weights than the bundle was made of; or words attend to regions in the
            system, whose maps are no cosines.
        CheckpointError: weights are missing or cannot be read.
    """
    import torch

    if engine.manifest.joint is not None and engine.manifest.joint.attention is not None:
        raise InputError(
            "This system's maps are the attention of a phrase's words, which is not drawn with PyTorch. Leave "
            "--checkpoint out."
        )
    with warnings.catch_warnings():  # of a package that the reference package imports
        warnings.simplefilter("ignore")
        from health_multimodal.vlp import ImageTextInferenceEngine as Reference

    torch.set_num_threads(threads)
    network = load_reference(engine.manifest, checkpoint, "image").model
    texts = list(dict.fromkeys(phrases))
    text_embeds = dict(
        zip(texts, torch.from_numpy(torch_texts(engine, checkpoint, threads)(texts)).split(1), strict=True)
    )
    encoder, rule = engine.image, engine.image.preprocessing
    # Upstream's enlargement knows hi-ml's way of resizing and cropping alone.
    as_upstream = rule.resize == "shortest" and rule.crop_rounding == "even"

    def maps(file: Path, phrases: Sequence[str]) -> list[NDArray[np.float32]]:
        (pixels,), _ = encoder.load([file])
        width, height = pixels.size
        patches = torch.from_numpy(network.embed(pixels.pixels[None])[1][0])
        found = []
        for phrase in phrases:
            smoothed = Reference._get_similarity_map_from_embeddings(patches, text_embeds[phrase])
            found.append(
                Reference.convert_similarity_to_image_size(
                    smoothed, width=width, height=height, resize_size=encoder.resize, crop_size=encoder.crop
                )
                if as_upstream
                else map_to_image(smoothed.numpy(), pixels.size, encoder.seen_square(pixels.size))
            )
        return found

    return maps
