"""CLIP-likes through sentence-transformers and fastembed, as their documentation has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.clip.making import GRAPH, made
from bench.peers.contract import Case, Open, Prepare, Run, Spec

__all__ = ["PACKAGES"]

# fastembed's names of CLIP's towers, which it looks for in a folder instead.
_TEXT, _VISION = "Qdrant/clip-ViT-B-32-text", "Qdrant/clip-ViT-B-32-vision"


@lru_cache
def _sentence_transformers(checkpoint: str, threads: int) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    # Images by Pillow as CLIP was trained with, not by torchvision.
    return SentenceTransformer(checkpoint, device="cpu", processor_kwargs={"backend": "pil"})


def _sentence_texts(spec: Spec) -> Prepare:
    """It sorts by length itself, in batches of 32."""
    model = _sentence_transformers(spec["checkpoint"], spec["threads"])
    return lambda case: lambda: _encoded(model, case["texts"])


def _sentence_images(spec: Spec) -> Prepare:
    model = _sentence_transformers(spec["checkpoint"], spec["threads"])
    return _with_pictures(lambda pictures: _encoded(model, pictures))


def _encoded(model: Any, items: list[Any]) -> NDArray[Any]:
    return np.asarray(model.encode(items, normalize_embeddings=True, show_progress_bar=False))


def _fastembed_texts(spec: Spec) -> Prepare:
    """On the plain export, in file order and batches of its own size."""
    from fastembed import TextEmbedding

    model = TextEmbedding(_TEXT, **_told(spec, "text"))

    def prepare(case: Case) -> Run:
        return lambda: np.stack(list(model.embed(case["texts"])))

    return prepare


def _fastembed_images(spec: Spec) -> Prepare:
    from fastembed import ImageEmbedding

    model = ImageEmbedding(_VISION, **_told(spec, "image"))
    return _with_pictures(lambda pictures: np.stack(list(model.embed(pictures))))


def _told(spec: Spec, part: str) -> dict[str, Any]:
    graph = made(spec, part) / GRAPH
    return {
        "threads": spec["threads"],
        "specific_model_path": str(graph.parent),
        "local_files_only": True,
        "providers": ["CPUExecutionProvider"],
    }


def _with_pictures(embed: Callable[[list[Any]], NDArray[Any]]) -> Prepare:
    """Prepared pixels as Pillow images, whose resizing and cropping change nothing more."""

    def prepare(case: Case) -> Run:
        from PIL import Image

        if "pixels" in case:
            pictures = [Image.fromarray(pixels.transpose(1, 2, 0)) for pixels in np.load(case["pixels"])]
            return lambda: embed(pictures)

        def run() -> NDArray[Any]:
            with ExitStack() as stack:
                return embed([stack.enter_context(Image.open(path)) for path in case["images"]])

        return run

    return prepare


PACKAGES: Mapping[str, Mapping[str, Open]] = MappingProxyType(
    {
        "sentence-transformers-clip": {"texts": _sentence_texts, "images": _sentence_images},
        "fastembed-clip": {"texts": _fastembed_texts, "images": _fastembed_images},
    }
)
