"""Encoded pictures → embeddings, or the pixels that the image graph reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import open_bundle
from runtime.engines import default_threads
from runtime.errors import Fault
from runtime.image.images import load_pixels
from runtime.triton.films import film_of
from runtime.triton.items import Item, Outcome, stack, with_faults
from runtime.triton.settings import Settings

__all__ = ["EmbedImages", "PrepareImages"]


class EmbedImages:
    """IMAGE, an encoded picture → EMBEDDING float32 (D,), unit L2 norm, as `ImageEncoder.encode` gives it."""

    noun, inputs, outputs = "images", ("IMAGE",), ("EMBEDDING",)

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_pixels
        self._image = settings.load("image").image

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """See `Task.run`."""
        given = [film_of(item, "IMAGE", self._most) for item in items]
        faults: list[Fault] = []
        films = [each for each in given if isinstance(each, bytes)]
        found = list(self._image.encode_iter(films, on_fault=faults.append))
        return with_faults(given, [{"EMBEDDING": each} for each in found if each is not None], faults)

    def stack(self, found: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """See `Task.stack`."""
        return stack(found)

    def check(self) -> None:
        """See `Task.check`."""
        self._image.encode_pixels(np.zeros((1, *self._image.preprocessing.shape), dtype=np.uint8))


class PrepareImages:
    """IMAGE, an encoded picture → pixel_values uint8, for a model that runs the image graph in another backend."""

    noun, inputs, outputs = "images", ("IMAGE",), ("pixel_values",)

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_pixels
        self._rule = open_bundle(settings.bundle).image_part().preprocessing
        self._threads = settings.threads or default_threads()

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """See `Task.run`."""
        given = [film_of(item, "IMAGE", self._most) for item in items]
        films = [each for each in given if isinstance(each, bytes)]
        loaded, faults = load_pixels(films, self._rule, threads=self._threads) if films else ([], [])
        return with_faults(given, [{"pixel_values": each.pixels} for each in loaded], faults)

    def stack(self, found: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """See `Task.stack`."""
        return stack(found)

    def check(self) -> None:
        """See `Task.check`: nothing here can stop working."""
