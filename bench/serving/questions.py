"""Requests of every kind, with the answers that the engine gives in process."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.serving.checks import Question
from bench.serving.load.plan import Request
from runtime.engine import Engine
from runtime.errors import BundleError

__all__ = ["MIXTURE", "bulk_question", "film_questions", "mixed_questions", "text_questions"]

_PHRASES = ("Small left pleural effusion", "Focal consolidation in the right lower lobe", "Moderate cardiomegaly")
_PROMPTS: Mapping[str, tuple[list[str], list[str]]] = MappingProxyType(
    {
        "effusion": (["There is a pleural effusion"], ["There is no pleural effusion"]),
        "pneumonia": (["Findings suggesting pneumonia"], ["No evidence of pneumonia"]),
    }
)
_MASKED = (
    "There is a small [MASK] on the right",
    "Moderate [MASK] pleural effusions",
    "The [MASK] is enlarged",
    "No focal [MASK] is seen",
    "[MASK] heart size",
)
# Words that are asked about, those that are a token of the vocabulary.
_WORDS = ("effusion", "opacity", "nodule", "heart", "pleural", "left", "right", "small", "no", "lung")
# Shares of the kinds in a mixture of all.
MIXTURE: Mapping[str, float] = MappingProxyType(
    {"text": 0.55, "fill-mask": 0.15, "image": 0.1, "similarity": 0.08, "classify": 0.06, "ground": 0.06}
)


def text_questions(engines: Sequence[Engine], texts: Sequence[str]) -> list[Question]:
    """One text a request, at `/embed`.

    Args:
        engines: any of which may answer; one but for a reload.
        texts: all different.
    """
    expected = [engine.text.encode(list(texts)) for engine in engines]
    return [
        Question("text", _json("/embed", {"inputs": text}), tuple(_rows(each[place : place + 1]) for each in expected))
        for place, text in enumerate(texts)
    ]


def bulk_question(engine: Engine, texts: Sequence[str]) -> Question:
    """All texts in one request, at `/embed`."""
    return Question("text", _json("/embed", {"inputs": list(texts)}), (_rows(engine.text.encode(list(texts))),))


def film_questions(engine: Engine, files: Sequence[Path], content_type: str) -> list[Question]:
    """An image a request, at `/embed/image`, its bytes being the whole body."""
    expected = engine.image.encode([str(file) for file in files])
    requests = [Request("/embed/image", file.read_bytes(), content_type) for file in files]
    return [Question("image", request, (_rows(row),)) for request, row in zip(requests, expected, strict=True)]


def mixed_questions(engine: Engine, texts: Sequence[str], images: Sequence[Path]) -> dict[str, list[Question]]:
    """Requests of every kind that the bundle can answer.

    Args:
        engine: that answers in process.
        texts: all different.
        images: PNG files.

    Returns:
        Kind → questions; a kind that the bundle lacks parts for is left out.
    """
    found: dict[str, list[Question]] = {}
    text, image = engine.manifest.text, engine.manifest.image
    if text is not None:
        found["text"] = text_questions([engine], texts)
    if text is not None and text.masked_words:
        found["fill-mask"] = _masked(engine)
    if image is not None:
        found["image"] = film_questions(engine, images, "image/png")
    if text is not None and image is not None:
        for name, make in _JOINT.items():
            # What a system cannot do is no part of the mixture.
            try:
                found[name] = [make(engine, image) for image in images]
            except BundleError:
                continue
    return found


def _masked(engine: Engine) -> list[Question]:
    # Three: the word between the special tokens.
    targets = [word for word in _WORDS if len(engine.text.tokenizer.encode([word])[0]) == 3]
    if not targets:
        return []
    found = []
    for text in _MASKED:
        words = engine.text.fill_mask(text, len(targets), targets)
        scores = np.log([word["score"] for word in sorted(words, key=lambda word: word["token"])])
        body = {"inputs": text, "parameters": {"top_k": len(targets), "targets": targets}}
        found.append(Question("fill-mask", _json("/fill-mask", body), (_rows([scores]),)))
    return found


def _similarity(engine: Engine, image: Path) -> Question:
    body = {"image": _base64(image), "texts": list(_PHRASES[:2])}
    expected = [[engine.similarity(str(image), list(_PHRASES[:2]))]]
    return Question("similarity", _json("/similarity", body), (_rows(expected),))


def _classify(engine: Engine, image: Path) -> Question:
    prompts = {label: [list(side) for side in sides] for label, sides in _PROMPTS.items()}
    labels = engine.classify(str(image), dict(_PROMPTS), score="pairs")
    body = {"image": _base64(image), "prompts": prompts, "score": "pairs"}
    expected = [[labels[label] for label in sorted(labels)]]
    return Question("classify", _json("/classify", body), (_rows(expected),))


def _ground(engine: Engine, image: Path) -> Question:
    found = engine.ground_phrases(str(image), list(_PHRASES))
    body = {"image": _base64(image), "phrases": list(_PHRASES)}
    expected = [each.patches.ravel() for each in found]
    return Question("ground", _json("/ground", body), (_rows(expected),))


_JOINT: Mapping[str, Callable[[Engine, Path], Question]] = MappingProxyType(
    {"similarity": _similarity, "classify": _classify, "ground": _ground}
)


def _json(path: str, body: Mapping[str, Any]) -> Request:
    return Request(path, json.dumps(body).encode())


def _base64(image: Path) -> str:
    return base64.b64encode(image.read_bytes()).decode("ascii")


def _rows(values: Any) -> Any:
    return np.atleast_2d(np.asarray(values, np.float64))
