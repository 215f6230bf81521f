"""Texts and images of CLIP-likes through PyTorch, on the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.clip.loading import Loaded, is_open_clip, load, load_open_clip, load_transformers
from bench.peers.clip.making import made
from bench.peers.contract import (
    AS_THEY_COME,
    BATCH,
    PROCESSOR,
    Case,
    Open,
    Prepare,
    Run,
    Spec,
    in_batches,
    sorted_batches,
)

__all__ = ["PYTORCH"]

# What a worker is told → the model.
Load = Callable[[Spec], Loaded]


def _own(spec: Spec) -> Loaded:
    return load(spec["checkpoint"])


def _eager(spec: Spec) -> Loaded:
    return load_transformers(spec["checkpoint"], "eager")


def _open_clip(spec: Spec) -> Loaded:
    checkpoint = spec["checkpoint"]
    return load_open_clip(checkpoint if is_open_clip(checkpoint) else str(made(spec, "open-clip")))


def _texts(load_it: Load, dtype: str, compiled: bool) -> Open:
    """As run: in file order, padded as the package pads."""

    def start(spec: Spec) -> Prepare:
        loaded = _placed(load_it, spec, dtype)
        embed_inputs = _embedding(loaded.embed_texts, spec, compiled)

        def prepare(case: Case) -> Run:
            texts = case["texts"]

            def embed(places: list[int]) -> NDArray[Any]:
                return embed_inputs(**loaded.inputs([texts[place] for place in places]))

            return lambda: in_batches(len(texts), embed)

        return prepare

    return start


def _sorted_texts(load_it: Load, dtype: str, compiled: bool) -> Open:
    """As those who know it run it: sorted by length, padded no more than must be."""

    def start(spec: Spec) -> Prepare:
        loaded = _placed(load_it, spec, dtype)
        embed_inputs = _embedding(loaded.embed_texts, spec, compiled)

        def prepare(case: Case) -> Run:
            def run() -> NDArray[Any]:
                rows = loaded.rows(case["texts"])

                def embed(places: list[int]) -> NDArray[Any]:
                    return embed_inputs(**loaded.padded([rows[place] for place in places]))

                return sorted_batches([len(row) for row in rows], embed, spec.get("texts", BATCH))

            return run

        return prepare

    return start


def _images(load_it: Load, dtype: str, compiled: bool) -> Open:
    """All images at a time, at most 32."""

    def start(spec: Spec) -> Prepare:
        import torch
        from PIL import Image

        loaded = _placed(load_it, spec, dtype)
        embed_pixels = _embedding(loaded.embed_images, spec, compiled)
        mean, std = (torch.tensor(values)[:, None, None] for values in (loaded.mean, loaded.std))
        kind = getattr(torch, dtype)

        def opened(path: str) -> Any:
            with Image.open(path) as image:
                return loaded.transform(image)

        def prepare(case: Case) -> Run:
            if "pixels" in case:
                pixels = np.load(case["pixels"])

                def batch(places: list[int]) -> Any:
                    return (torch.from_numpy(pixels[places]).float().div(255) - mean) / std
            else:
                paths = case["images"]

                def batch(places: list[int]) -> Any:
                    return torch.stack([opened(paths[place]) for place in places])

            count = len(pixels) if "pixels" in case else len(case["images"])
            size = spec.get("images", AS_THEY_COME)
            return lambda: in_batches(count, lambda places: embed_pixels(batch(places).to(kind)), size)

        return prepare

    return start


def _placed(load_it: Load, spec: Spec, dtype: str) -> Loaded:
    import torch

    torch.set_num_threads(spec["threads"])
    loaded = load_it(spec)
    loaded.model.to(getattr(torch, dtype)).to(spec.get("device", PROCESSOR))
    return loaded


def _embedding(embed: Callable[..., Any], spec: Spec, compiled: bool) -> Callable[..., NDArray[np.float32]]:
    """Tensors → embeddings of unit norm."""
    import torch

    device = spec.get("device", PROCESSOR)
    embed = torch.compile(embed, dynamic=True) if compiled else embed

    def run(*tensors: Any, **named: Any) -> NDArray[np.float32]:
        with torch.inference_mode():
            moved = {name: value.to(device) for name, value in named.items()}
            found = embed(*(tensor.to(device) for tensor in tensors), **moved)
            unit: NDArray[np.float32] = torch.nn.functional.normalize(found.float(), dim=-1).cpu().numpy()
        return unit

    return run


def _both(
    texts: Callable[..., Open], load_it: Load, dtype: str = "float32", compiled: bool = False
) -> Mapping[str, Open]:
    return {"texts": texts(load_it, dtype, compiled), "images": _images(load_it, dtype, compiled)}


PYTORCH: Mapping[str, Mapping[str, Open]] = MappingProxyType(
    {
        "clip-reference": _both(_texts, _own),
        "clip-eager": _both(_texts, _eager),
        "clip-torch-fp32": _both(_sorted_texts, _own),
        "clip-torch-bf16": _both(_sorted_texts, _own, "bfloat16"),
        "clip-torch-fp16": _both(_sorted_texts, _own, "float16"),
        "clip-torch-compile": _both(_sorted_texts, _own, compiled=True),
        "clip-torch-compile-bf16": _both(_sorted_texts, _own, "bfloat16", compiled=True),
        "open-clip": _both(_texts, _open_clip),
        "open-clip-bf16": _both(_texts, _open_clip, "bfloat16"),
        "open-clip-compile": _both(_texts, _open_clip, compiled=True),
    }
)
