"""Systems that no package runs as they are: upstream's classes in PyTorch, which the export compares its graphs with.

Texts go through upstream's tokenizer; pictures are read by this project, and the network computes one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import PeerError
from bench.peers.contract import Case, Open, Prepare, Run, Spec, in_batches
from bench.peers.references import load_reference

__all__ = ["UPSTREAM"]


def _texts(spec: Spec) -> Prepare:
    """As they come, in batches of 32, padded to the longest of a batch."""
    import torch

    from export.families import TextAxes
    from export.proof.upstream_tokens import upstream_tokenizers
    from runtime.bundle import open_bundle
    from runtime.text import Tokenizer, pad_batch

    torch.set_num_threads(spec["threads"])
    bundle = open_bundle(spec["bundle"])
    part = bundle.text_part()
    network, folder = load_reference(bundle.manifest, Path(spec["checkpoint"]), "text")
    upstream, *_ = upstream_tokenizers(folder, TextAxes(part.tokenization, part.pooling, part.projection))
    ours = Tokenizer(bundle.path("text"), part.tokenization)
    prompt, padding = ours.prompt(None), ours.pad_token_id

    def prepare(case: Case) -> Run:
        texts = [prompt + text for text in case["texts"]]

        def embed(places: list[int]) -> NDArray[Any]:
            rows = upstream.encode([texts[place] for place in places])
            tensors = (torch.from_numpy(values) for values in pad_batch(rows, padding))
            unit: NDArray[Any] = torch.nn.functional.normalize(network.embed(*tensors), dim=-1).numpy()
            return unit

        return lambda: in_batches(len(texts), embed)

    return prepare


def _images(spec: Spec) -> Prepare:
    import torch

    from runtime.bundle import open_bundle
    from runtime.image.images import load_pixels

    torch.set_num_threads(spec["threads"])
    bundle = open_bundle(spec["bundle"])
    rule = bundle.image_part().preprocessing
    network = load_reference(bundle.manifest, Path(spec["checkpoint"]), "image").model

    def prepare(case: Case) -> Run:
        if "pixels" in case:
            given = np.load(case["pixels"])
            return lambda: in_batches(len(given), lambda places: network.embed(given[places])[0], 1)
        paths = case["images"]

        def embed(places: list[int]) -> NDArray[Any]:
            loaded, faults = load_pixels([paths[place] for place in places], rule)
            if faults:
                raise PeerError(str(faults[0]))
            embeds: NDArray[Any] = network.embed(np.stack([each.pixels for each in loaded]))[0]
            return embeds

        return lambda: in_batches(len(paths), embed, 1)

    return prepare


UPSTREAM: Mapping[str, Mapping[str, Open]] = MappingProxyType({"upstream": {"texts": _texts, "images": _images}})
