"""The other faces of text graphs, which read the same weights: several texts a row, words for masks, and words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from export.graphs import GraphSpec
from export.graphs.fill_mask import Head, export_head, fill_mask_artifact
from export.graphs.other_tools import every_token_graph
from export.graphs.packing import pack_artifact
from export.graphs.words import words_artifact, words_spec
from export.precision.misses import Asked, Misses
from export.progress import Steps
from export.proof import check_gates
from export.proof.fill_mask_parity import MaskedCases, fill_mask_parity, masked_cases, pytorch_answers
from export.proof.text_parity import packed_parity
from export.proof.words_parity import words_parity
from export.reference import AnyText, TextReference
from runtime.bundle import EMBEDDING, FILL_MASK, PACKED, WORDS, Artifact
from runtime.engines import PROVIDERS, Provider, SessionOptions
from runtime.engines.providers import default_threads
from runtime.text import Tokenizer

__all__ = ["Faces", "compare_masks", "in_order"]

_ROLES = (EMBEDDING, PACKED, FILL_MASK, WORDS)


@dataclass
class Faces:
    """Makes them, and compares each with PyTorch or with its twin.

    Attributes:
        reference: upstream's model.
        bundle: the folder that files are named from.
        packed: names and axes of packed graphs.
        engines: those that compare.
        tokenizer: of the bundle.
        seed: of the inputs.
        misses: leaves out the precisions whose faces miss a gate.
        steps: where progress is shown.
    """

    reference: AnyText
    bundle: Path
    packed: GraphSpec
    engines: tuple[Provider, ...]
    tokenizer: Tokenizer
    seed: int
    misses: Misses
    steps: Steps
    _head: Head | None = None
    _cases: MaskedCases | None = None

    def of(self, plain: Sequence[Artifact]) -> list[Artifact]:
        """Graphs that take a text a row, with their other faces: of each artifact all that engines run, or nothing.

        Raises:
            GateError, GraphError, ProviderError: a face of fp32 misses, or of another precision and nothing may be left
                out.
        """
        kept: dict[str, tuple[Artifact, ...]] = {each.file: (each,) for each in plain}

        def add(each: Artifact, make: Callable[[], Artifact]) -> None:
            made = kept.pop(each.file)
            files = {name for face in made for name in face.files}
            with self.misses.leaving_out(Asked.of("text", each), made=files):
                kept[each.file] = (*made, make())

        with self.steps.step("text: packing several texts a row") as advance:
            packable = [each for each in plain if any(PROVIDERS[name].packs for name in each.providers)]
            for index, each in enumerate(packable):
                add(each, partial(self._pack, each))
                advance((index + 1) / len(packable))
        pairs = [made for made in kept.values() if len(made) > 1]
        if self.reference.masked_head is not None and pairs:
            with self.steps.step("text: filling masks, compared with PyTorch") as advance:
                self._read_head(plain)
                for index, made in enumerate(pairs):
                    add(made[0], partial(self._fill_masks, made[1]))
                    advance((index + 1) / len(pairs))
        if self.reference.pooling == "layers" and kept:
            with self.steps.step("text: embedding words, compared with PyTorch"):
                for each in [made[0] for made in kept.values()]:
                    add(each, partial(self._embed_words, each))
        return [face for made in kept.values() for face in made]

    def _pack(self, plain: Artifact) -> Artifact:
        """The packed twin of an artifact, compared with it on every engine at hand."""
        packed = pack_artifact(plain, self.bundle, self.packed)
        options = SessionOptions(threads=default_threads(), precision=plain.precision)
        vocab_size, records = self.reference.vocab_size, []
        for engine in self.engines:
            if engine.name in packed.providers:
                alone, side_by_side = (engine.open(self.bundle / found.file, options) for found in (plain, packed))
                records.append(
                    packed_parity(
                        alone,
                        side_by_side,
                        engine.name,
                        plain.precision,
                        self.tokenizer,
                        vocab_size,
                        self.seed,
                        pooling=self.reference.pooling,
                    )
                )
        check_gates(f"text {plain.precision}, packed", records)
        return replace(packed, parity=tuple(records))

    def _embed_words(self, plain: Artifact) -> Artifact:
        """The twin of an artifact that embeds every token, compared with PyTorch on every engine at hand."""
        reference = self.reference
        assert isinstance(reference, TextReference), "only BERTs pool layers"
        spec = words_spec(reference.size, reference.hidden_size, reference.longest)
        twin = words_artifact(plain, self.bundle, spec)
        options = SessionOptions(threads=default_threads(), precision=plain.precision)
        records = [
            words_parity(
                engine.open(self.bundle / twin.file, options), engine.name, plain.precision, reference, self.tokenizer
            )
            for engine in self.engines
            if engine.name in twin.providers and engine.refuses(plain.precision) is None
        ]
        check_gates(f"text {plain.precision}, words", records)
        return replace(twin, parity=tuple(records))

    def _read_head(self, plain: Sequence[Artifact]) -> None:
        if self._head is not None:
            return
        reference, (first, *others) = self.reference, plain
        assert isinstance(reference, TextReference), "only BERTs fill masks"
        # The decoder's table is in the fp32 graph's file. Others need it in one of its own, which fp32 then reads too.
        shared = self.bundle / first.file if first.precision == "fp32" and not others else None
        self._head = export_head(reference, (self.bundle / first.file).parent, shared)
        answers = pytorch_answers(reference)
        self._cases = masked_cases(answers, reference.name, self.tokenizer, reference.vocab_size, self.seed)

    def _fill_masks(self, packed: Artifact) -> Artifact:
        assert self._head is not None
        assert self._cases is not None
        longest = self.reference.longest
        filling = fill_mask_artifact(packed, self.bundle, self._head, longest)
        compared = compare_masks(filling, self.bundle, self.engines, self._cases)
        if filling.precision == "fp32":
            every_token_graph(self.bundle / filling.file, self.reference.vocab_size, longest)
        return compared


def compare_masks(filling: Artifact, bundle: Path, engines: tuple[Provider, ...], cases: MaskedCases) -> Artifact:
    """A graph that fills masks, compared with PyTorch on every engine at hand.

    Raises:
        GateError: it differs by more than its gates allow.
    """
    options = SessionOptions(threads=default_threads(), precision=filling.precision)
    records = [
        fill_mask_parity(engine.open(bundle / filling.file, options), engine.name, filling.precision, cases)
        for engine in engines
        if engine.name in filling.providers
    ]
    check_gates(f"text {filling.precision}, masks", records)
    return replace(filling, parity=tuple(records))


def in_order(artifacts: Iterable[Artifact]) -> tuple[Artifact, ...]:
    """As manifests list them: by role, fp32 first."""
    return tuple(sorted(artifacts, key=lambda each: (_ROLES.index(each.role), each.precision != "fp32")))
