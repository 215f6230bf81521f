"""An encoded picture and texts → their similarity, or probabilities of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engine import Engine
from runtime.errors import Fault, InputError
from runtime.files import parse_json
from runtime.tasks.prompts import Prompts
from runtime.triton.films import film_of
from runtime.triton.items import Item, Outcome, json_tensor, stack, text_of
from runtime.triton.settings import Settings

__all__ = ["ClassifyImages", "CompareImages"]


class CompareImages:
    """IMAGE and TEXT, one or several phrases that mean the same → SIMILARITY float32 (1,); see `Engine.similarity`."""

    noun, inputs, outputs = "items", ("IMAGE", "TEXT"), ("SIMILARITY",)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = settings.load("text", "image")

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """See `Task.run`."""
        return [self._compare(item) for item in items]

    def _compare(self, item: Item) -> Outcome:
        film = film_of(item, "IMAGE", self._settings.max_pixels)
        given = item["TEXT"]
        assert given is not None, "a required input"
        texts = [
            text_of({"TEXT": given[at : at + 1]}, "TEXT", self._settings.max_characters) for at in range(len(given))
        ]
        faults = [each for each in (film, *texts) if isinstance(each, Fault)]
        if faults or not isinstance(film, bytes):
            return "; ".join(dict.fromkeys(fault.reason for fault in faults))
        try:
            found = self._engine.similarity(film, [str(each) for each in texts])
        except InputError as error:
            return _said(error)
        return {"SIMILARITY": np.array([found], dtype=np.float32)}

    def stack(self, found: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """See `Task.stack`."""
        return stack(found)

    def check(self) -> None:
        """See `Task.check`."""
        _check(self._engine)


class ClassifyImages:
    """IMAGE and PROMPTS → JSON {label: probability}; see `Engine.classify`.

    PROMPTS is the name of a set of prompts, or JSON: a list of labels, or {label: [positives, negatives]}.
    """

    noun, inputs, outputs = "items", ("IMAGE", "PROMPTS"), ("JSON",)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = settings.load("text", "image")

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """See `Task.run`."""
        return [self._classify(item) for item in items]

    def _classify(self, item: Item) -> Outcome:
        film = film_of(item, "IMAGE", self._settings.max_pixels)
        stated = text_of(item, "PROMPTS", self._settings.max_characters)
        if isinstance(film, Fault):
            return film.reason
        if isinstance(stated, Fault):
            return stated.reason
        try:
            prompts: Prompts | str = parse_json(stated) if stated.lstrip()[:1] in ("[", "{") else stated
            return {"JSON": json_tensor(self._engine.classify(film, prompts))}
        except InputError as error:
            return _said(error)
        except ValueError:
            return "PROMPTS is not valid JSON"

    def stack(self, found: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """See `Task.stack`."""
        return stack(found)

    def check(self) -> None:
        """See `Task.check`."""
        _check(self._engine)


def _said(error: InputError) -> str:
    """What is wrong, without the texts that the message may quote."""
    return "; ".join(dict.fromkeys(fault.reason for fault in error.faults)) or str(error)


def _check(engine: Engine) -> None:
    engine.text.encode("No pleural effusion.")
    engine.image.encode_pixels(np.zeros((1, *engine.image.preprocessing.shape), dtype=np.uint8))
