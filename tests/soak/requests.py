"""The requests of a soak: texts, masks, images, grounding and classification, each with what one thread answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.samples import chest_phantom
from export.samples.report_sentences import report_texts
from runtime import Engine

__all__ = ["Request", "answer_all", "make_requests", "write_films"]

_TEXTS_OF_A_CALL = (1, 1, 1, 2, 5, 30, 400)  # the last is bulk work
_LONGEST_TEXT = 50  # words
_IMAGES_OF_A_CALL = (1, 1, 2, 4, 10)
_PROMPTS = {"Edema": (["Pulmonary edema"], ["No edema"]), "Effusion": (["Pleural effusion"], ["No pleural effusion"])}


@dataclass(frozen=True)
class Request:
    """One call of an engine, always the same.

    Attributes:
        name: what kind it is.
        ask: engine → numbers of the answer, in one array of a fixed shape.
    """

    name: str
    ask: Callable[[Engine], NDArray[Any]]


def write_films(folder: Path, count: int = 12) -> list[Path]:
    """Synthetic films of several sizes: PNG, JPEG and, if pydicom is there, DICOM."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number in range(count):
        film = chest_phantom(600 + 40 * number, 500 + 30 * number, seed=number)
        path = folder / f"film-{number}.{'png' if number % 2 else 'jpg'}"
        Image.fromarray(film).save(path)
        written.append(path)
    return written + _dicom_films(folder)


def _dicom_films(folder: Path) -> list[Path]:
    try:
        from tests.runtime.dicoms import write_dicom
    except ImportError:
        return []
    films = [chest_phantom(500 + 60 * number, 520, seed=50 + number).astype(np.uint16) * 16 for number in range(4)]
    return [write_dicom(folder / f"film-{number}.dcm", film, bits=12) for number, film in enumerate(films)]


def make_requests(films: Sequence[Path], count: int, seed: int) -> list[Request]:
    """So many different requests, drawn with a seed."""
    draw = random.Random(seed)
    # Small vocabularies spell words out: whole reports could be longer than the model reads.
    texts = [" ".join(text.split()[:_LONGEST_TEXT]) for text in islice(report_texts(seed), 3000)]
    makers = (_texts, _texts, _texts_one_by_one, _masks, _images, _images, _patches, _grounding, _classes, _similarity)
    return [makers[number % len(makers)](draw, texts, films) for number in range(count)]


def answer_all(engine: Engine, requests: Sequence[Request]) -> list[NDArray[Any]]:
    """What one thread answers, one request after the other."""
    return [request.ask(engine) for request in requests]


def _texts(draw: random.Random, texts: Sequence[str], _films: Sequence[Path]) -> Request:
    chosen = draw.sample(texts, draw.choice(_TEXTS_OF_A_CALL))
    return Request(f"{len(chosen)} texts", lambda engine: engine.text.encode(chosen))


def _texts_one_by_one(draw: random.Random, texts: Sequence[str], _films: Sequence[Path]) -> Request:
    chosen = draw.sample(texts, 20)
    return Request("encode_iter", lambda engine: np.stack(list(engine.text.encode_iter(iter(chosen)))))


def _masks(draw: random.Random, texts: Sequence[str], _films: Sequence[Path]) -> Request:
    words = draw.choice(texts).split()
    words[draw.randrange(len(words))] = "[MASK]"
    text = " ".join(words)
    # Words as near as the last bit may change places, so the scores alone are compared.
    return Request(
        "fill_mask", lambda engine: np.array([each["score"] for each in engine.text.fill_mask(text, top_k=5)])
    )


def _images(draw: random.Random, _texts: Sequence[str], films: Sequence[Path]) -> Request:
    chosen = [draw.choice(films) for _ in range(draw.choice(_IMAGES_OF_A_CALL))]
    return Request(f"{len(chosen)} images", lambda engine: engine.image.encode(chosen))


def _patches(draw: random.Random, _texts: Sequence[str], films: Sequence[Path]) -> Request:
    film = draw.choice(films)
    return Request("encode_patches", lambda engine: engine.image.encode_patches(film))


def _grounding(draw: random.Random, texts: Sequence[str], films: Sequence[Path]) -> Request:
    film, text = draw.choice(films), draw.choice(texts)
    return Request("ground", lambda engine: np.nan_to_num(engine.ground(film, text).similarity_map, nan=-9))


def _classes(draw: random.Random, _texts: Sequence[str], films: Sequence[Path]) -> Request:
    film = draw.choice(films)
    return Request("classify", lambda engine: np.array(list(engine.classify(film, _PROMPTS).values())))


def _similarity(draw: random.Random, texts: Sequence[str], films: Sequence[Path]) -> Request:
    film, chosen = draw.choice(films), draw.sample(texts, 3)
    return Request("similarity", lambda engine: np.array([engine.similarity(film, chosen)]))
