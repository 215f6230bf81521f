"""Who measures a graph on held-out data: by embeddings that are right, on the engines that are here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.proof.fidelity import (
    IMAGE_OUTPUTS,
    embed_images,
    embed_texts,
    image_figures,
    image_milliseconds,
    text_figures,
    text_milliseconds,
)
from export.samples import TRIPLETS
from runtime.bundle import FidelityRecord
from runtime.engines import PROVIDERS, Provider, Session, SessionOptions
from runtime.engines.providers import default_threads
from runtime.errors import ProviderError
from runtime.text import Tokenizer

__all__ = ["Judge", "image_judge", "text_judge", "working_engines"]

# A graph meant for engines that are not here is still judged, by the first of these that is.
_STAND_IN = ("cpu", "openvino")


@dataclass(frozen=True)
class Judge:
    """Measures graphs of one part on held-out data.

    Attributes:
        figures: an opened graph → figures, see `export.proof.fidelity`.
        milliseconds: an opened graph → median time of one batch.
        items: number of held-out items; data is the sha256 of their contents.
        engines: those that measure; they open the part's fp32 graph.
        fp32: engine → figures that are known of the fp32 graph: the engine with which it gave the embeddings that are
            right does not compute all of them again.
    """

    figures: Callable[[Session], dict[str, float]]
    milliseconds: Callable[[Session], float]
    items: int
    data: str
    engines: tuple[Provider, ...]
    fp32: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def engines_for(self, providers: Iterable[str]) -> tuple[Provider, ...]:
        """The engines that measure a graph meant for `providers`: those of them that are here, or a stand-in."""
        wanted = set(providers)
        meant = tuple(engine for engine in self.engines if engine.name in wanted)
        return meant or tuple(engine for name in _STAND_IN for engine in self.engines if engine.name == name)[:1]

    def record(
        self, engine: Provider, model: Path, precision: str, gates: Mapping[str, float], computed: str | None = None
    ) -> FidelityRecord:
        """Open a graph, measure it, close it.

        Args:
            engine: what runs it.
            model: the .onnx file.
            precision: what is recorded; computed is what the session is opened with, if that differs.
            gates: smallest values allowed.

        Raises:
            ProviderError: the engine cannot open the graph.
        """
        options = SessionOptions(threads=default_threads(), precision=computed or precision)
        session = engine.open(model, options)
        known = self.fp32.get(engine.name) if (precision, computed) == ("fp32", None) else None
        figures = dict(known) if known else self.figures(session)
        return FidelityRecord(
            provider=engine.name,
            precision=precision,
            processor=engine.processor(),
            items=self.items,
            data=self.data,
            figures=figures,
            gates={name: bound for name, bound in gates.items() if name in figures},
            milliseconds=self.milliseconds(session),
        )


def working_engines(model: Path, names: Iterable[str] = tuple(PROVIDERS)) -> tuple[Provider, ...]:
    """Those of the named engines that are installed and open an fp32 graph.

    An engine may be installed and still not run, for want of a GPU; one that opens fp32 has no excuse for the rest.
    """
    found = []
    for name in names:
        if PROVIDERS[name].missing() is None:
            with contextlib.suppress(ProviderError):
                PROVIDERS[name].open(model, SessionOptions(threads=default_threads(), precision="fp32"))
                found.append(PROVIDERS[name])
    return tuple(found)


def text_judge(
    expected: NDArray[np.float32],
    expected_triplets: NDArray[np.float32],
    rows: list[list[int]],
    tokenizer: Tokenizer,
    vocab_size: int,
    digest: str,
    engines: tuple[Provider, ...],
    embedded_by: str | None = None,
) -> Judge:
    """A judge by embeddings that are right.

    Args:
        expected: float32 (N, D) of the held-out `rows`.
        expected_triplets: float32 (3 · T, D) of the published triplets.
        rows: token ids.
        vocab_size: ids of the timed batch are below it.
        digest: sha256 of the held-out texts.
        engines: those that measure.
        embedded_by: the engine that gave the embeddings with the fp32 graph.
    """
    triplets = tokenizer.encode([text for triplet in TRIPLETS for text in triplet])

    def figures(session: Session) -> dict[str, float]:
        found = embed_texts(session, [*rows, *triplets], tokenizer.pad_token_id)
        return text_figures(found[: len(rows)], expected, (found[len(rows) :], expected_triplets))

    def milliseconds(session: Session) -> float:
        return text_milliseconds(session, vocab_size, tokenizer.max_length)

    itself = text_figures(expected, expected, (expected_triplets, expected_triplets)) if embedded_by else {}
    return Judge(figures, milliseconds, len(rows), digest, engines, {embedded_by: itself} if embedded_by else {})


def image_judge(
    expected: tuple[NDArray[np.float32], ...],
    pixels: NDArray[np.uint8],
    digest: str,
    engines: tuple[Provider, ...],
    embedded_by: str | None = None,
) -> Judge:
    """A judge by embeddings that are right.

    Args:
        expected: global and, where there are such, patch embeddings of the held-out `pixels`.
        pixels: uint8 (N, …), see `Preprocessing.shape`.
        digest: sha256 of the held-out pixels.
        engines: those that measure.
        embedded_by: the engine that gave the embeddings with the fp32 graph.
    """

    def figures(session: Session) -> dict[str, float]:
        return image_figures(embed_images(session, pixels, IMAGE_OUTPUTS[: len(expected)]), expected)

    def milliseconds(session: Session) -> float:
        return image_milliseconds(session, pixels)

    itself = image_figures(expected, expected) if embedded_by else {}
    return Judge(figures, milliseconds, len(pixels), digest, engines, {embedded_by: itself} if embedded_by else {})
