"""Who measures a graph on held-out data: by embeddings that are right, on the engines that are here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    tie_tolerance,
)
from export.proof.pair_figures import pair_figures
from export.samples import TRIPLETS, TextData
from runtime.bundle import FidelityRecord
from runtime.engines import PROVIDERS, Provider, Session, SessionOptions
from runtime.engines.providers import default_threads
from runtime.errors import ProviderError
from runtime.text import Tokenizer

__all__ = ["Judge", "TextCases", "image_judge", "reference_noise", "text_cases", "text_judge", "working_engines"]

Embeds = NDArray[np.float32]

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
        extra: an opened graph → more figures, by other data; None measures none.
    """

    figures: Callable[[Session], dict[str, float]]
    milliseconds: Callable[[Session], float]
    items: int
    data: str
    engines: tuple[Provider, ...]
    fp32: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    extra: Callable[[Session], dict[str, float]] | None = None

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
            gates: bounds, see `export.proof.fidelity`.

        Raises:
            ProviderError: the engine cannot open the graph.
        """
        options = SessionOptions(threads=default_threads(), precision=computed or precision)
        session = engine.open(model, options)
        known = self.fp32.get(engine.name) if (precision, computed) == ("fp32", None) else None
        figures = dict(known or self.figures(session))
        if self.extra:
            figures |= self.extra(session)
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


@dataclass(frozen=True)
class TextCases:
    """Token ids of the texts that a judge looks at.

    Attributes:
        held_out: those that are compared with each other.
        triplets: the published ones, reference, synonym and contradiction of each.
        first: of the pairs; second those that they are to find.
    """

    held_out: Sequence[list[int]]
    triplets: Sequence[list[int]]
    first: Sequence[list[int]]
    second: Sequence[list[int]]

    @property
    def rows(self) -> list[list[int]]:
        """All of them."""
        return [*self.held_out, *self.triplets, *self.first, *self.second]

    def divided(self, embeds: Embeds) -> tuple[Embeds, Embeds, Embeds, Embeds]:
        """The embeddings of `rows`, as the attributes."""
        ends = np.cumsum([len(self.held_out), len(self.triplets), len(self.first)])
        held_out, triplets, first, second = np.split(embeds, ends)
        return held_out, triplets, first, second


def text_cases(data: TextData, tokenizer: Tokenizer) -> TextCases:
    """What texts are judged by."""
    triplets = tokenizer.encode([text for triplet in TRIPLETS for text in triplet])
    return TextCases(data.held_out, triplets, [first for first, _ in data.pairs], [second for _, second in data.pairs])


def text_judge(
    expected: Embeds,
    cases: TextCases,
    tokenizer: Tokenizer,
    vocab_size: int,
    digest: str,
    engines: tuple[Provider, ...],
    tolerance: float | None = None,
    embedded_by: str | None = None,
    extra: Callable[[Session], dict[str, float]] | None = None,
) -> Judge:
    """A judge by embeddings that are right.

    Args:
        expected: float32 (N, D) of the rows of `cases`.
        vocab_size: ids of the timed batch are below it.
        digest: sha256 of the held-out texts.
        engines: those that measure.
        tolerance: see `export.proof.fidelity.tie_tolerance`.
        embedded_by: the engine that gave the embeddings with the fp32 graph.
        extra: an opened graph → more figures, such as those of `export.proof.zero_shot`.
    """
    held_out, triplets, *pairs = cases.divided(expected)

    def compare(embeds: Embeds) -> dict[str, float]:
        found = cases.divided(embeds)
        compared = text_figures(found[0], held_out, (found[1], triplets), tolerance)
        return compared | (pair_figures((found[2], found[3]), (pairs[0], pairs[1])) if len(pairs[0]) > 1 else {})

    def figures(session: Session) -> dict[str, float]:
        return compare(embed_texts(session, cases.rows, tokenizer.pad_token_id))

    def milliseconds(session: Session) -> float:
        return text_milliseconds(session, vocab_size, tokenizer.max_length)

    known = {embedded_by: compare(expected)} if embedded_by else {}
    return Judge(figures, milliseconds, len(held_out), digest, engines, known, extra)


def image_judge(
    expected: tuple[Embeds, ...],
    pixels: NDArray[np.uint8],
    digest: str,
    engines: tuple[Provider, ...],
    tolerance: float | None = None,
    embedded_by: str | None = None,
    extra: Callable[[Session], dict[str, float]] | None = None,
    previous: NDArray[np.uint8] | None = None,
) -> Judge:
    """A judge by embeddings that are right.

    Args:
        expected: global and, where there are such, patch embeddings of the held-out `pixels`.
        pixels: uint8 (N, …), see `Preprocessing.shape`.
        digest: sha256 of the held-out pixels.
        engines: those that measure.
        tolerance: see `export.proof.fidelity.tie_tolerance`.
        embedded_by: the engine that gave the embeddings with the fp32 graph.
        extra: an opened graph → more figures, such as those of `export.proof.zero_shot`.
        previous: pixels of the previous images, for graphs of pairs.
    """

    def figures(session: Session) -> dict[str, float]:
        found = embed_images(session, pixels, IMAGE_OUTPUTS[: len(expected)], previous)
        return image_figures(found, expected, tolerance=tolerance)

    def milliseconds(session: Session) -> float:
        return image_milliseconds(session, pixels, previous)

    itself = image_figures(expected, expected, tolerance=tolerance) if embedded_by else {}
    known = {embedded_by: itself} if embedded_by else {}
    return Judge(figures, milliseconds, len(pixels), digest, engines, known, extra)


def reference_noise(
    model: Path, engines: Sequence[Provider], reference: str, embed: Callable[[Session], Embeds], expected: Embeds
) -> float | None:
    """How much the reference's similarities change where it is computed otherwise, see `tie_tolerance`.

    Args:
        model: the fp32 graph.
        engines: that are here; one that computes it in bf16 is taken, else one other than the reference.
        reference: the engine that `expected` comes from.
        embed: opened graph → float32 (N, D) of the held-out items.
        expected: the same, by the reference.

    Returns:
        The tolerance; None where the machine has neither.
    """
    rounding = [(engine, "bf16") for engine in engines if "bf16" in engine.from_fp32 and engine.refuses("bf16") is None]
    others = [(engine, "fp32") for engine in engines if engine.name != reference]
    for engine, precision in (*rounding, *others):
        session = engine.open(model, SessionOptions(threads=default_threads(), precision=precision))
        return tie_tolerance(embed(session), expected)
    return None
