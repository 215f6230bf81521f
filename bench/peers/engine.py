"""This engine, through its public interface alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.peers.contract import TOP, Case, Prepare, Spec, masks_answer, relative_cosines
from bench.peers.settled import settled

__all__ = ["ENGINE"]


def _load(spec: Spec, *parts: str) -> Any:
    """Without the cache of embeddings: a text that is timed again is as new as to every other."""
    import runtime

    return runtime.load(
        spec["bundle"],
        spec["provider"],
        spec["precision"],
        spec["threads"],
        parts=list(parts),
        text_cache=0,
        fast_decode=spec.get("fast_decode", False),
    )


def _texts(spec: Spec) -> Prepare:
    engine = _load(spec, "text")
    return lambda case: settled(lambda: engine.text.encode(case["texts"]))


def _masks(spec: Spec) -> Prepare:
    engine = _load(spec, "text")
    return lambda case: settled(lambda: masks_answer(engine.text.fill_mask(case["texts"], TOP)))


def _images(spec: Spec) -> Prepare:
    engine = _load(spec, "image")

    def prepare(case: Case) -> Any:
        if "images" in case:
            return settled(lambda: engine.image.encode(case["images"]))
        pixels = np.load(case["pixels"])
        return settled(lambda: engine.image.encode_pixels(pixels))

    return prepare


def _joint(spec: Spec) -> Prepare:
    """The labels in another order each time: a classifier of prompts that were seen before would be kept."""
    engine = _load(spec, "text", "image")
    rng = np.random.default_rng(0)

    def prepare(case: Case) -> Any:
        compared = "scale" in case
        prompts: dict[str, Any] = {
            label: sides if compared else tuple([side] for side in sides) for label, *sides in case["prompts"]
        }

        def run() -> Any:
            labels = rng.permutation(list(prompts)).tolist()
            found = engine.classify(case["image"], {label: prompts[label] for label in labels})
            answer = np.array([[found[label] for label in prompts]])
            return relative_cosines(answer, case["scale"]) if compared else answer

        return settled(run)

    return prepare


ENGINE: Mapping[str, Any] = {"texts": _texts, "masks": _masks, "images": _images, "joint": _joint}
