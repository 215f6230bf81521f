"""What is measured: a table of workloads, each of one or more cases.

The operations counted are those of the models as published, per real token or per image: padding, packing and what the
rewrites save are not work done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bench.measuring import Entry, Plan
from bench.record import Case
from bench.workloads.contestants import REFERENCE
from bench.workloads.corpus import masked_texts, report_texts, texts_of_length
from bench.workloads.inputs import cut, write_jpegs
from bench.workloads.operations import image_operations, token_operations
from export.samples import chest_phantom
from runtime.bundle import Bundle
from runtime.process.wording import counted
from runtime.tasks.prompt_sets import prompt_set
from runtime.text import Tokenizer

__all__ = ["QUICK", "WHOLE", "WORKLOADS", "Setting", "Size", "Workload"]

QUERY_TOKENS = 16
_MASK_TOKENS, _MASK_TEXTS = 64, 8
_THREADS_TEXTS = 16
# Of prepared images; what is measured seldom takes part in it.
_CHIEF_BATCH = 4


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        texts: of the corpus.
        shapes: batch and tokens.
        files: JPEG files.
        pixels: batches of prepared images.
        corpus: numbers of texts, for how rates grow with them.
        starts: cold starts of each.
        requests: of the long run that memory is watched in, and images there.
        images: see `requests`.
    """

    texts: int
    shapes: tuple[tuple[int, int], ...]
    files: int
    pixels: tuple[int, ...]
    corpus: tuple[int, ...]
    starts: int
    requests: int
    images: int


QUICK = Size(
    texts=32,
    shapes=((1, 64), (1, 128), (8, 16), (8, 64)),
    files=4,
    pixels=(1, 4),
    corpus=(1, 8, 32),
    starts=5,
    requests=100,
    images=16,
)
WHOLE = Size(
    texts=256,
    shapes=tuple((batch, tokens) for batch in (1, 8, 32) for tokens in (16, 64, 128, 512)),
    files=24,
    pixels=(1, 4, 16),
    corpus=(1, 4, 16, 64, 256, 1024, 4096),
    starts=9,
    requests=10_000,
    images=2_000,
)


@dataclass(frozen=True)
class Setting:
    """What cases are made of.

    Attributes:
        bundle: the opened bundle.
        entries: contestants.
        size: how much.
        threads: of each contestant.
        seed: of what is drawn at random.
        folder: for files that are made.
        texts: the user's; empty takes synthetic reports.
        source: where the texts come from.
    """

    bundle: Bundle
    entries: Sequence[Entry]
    size: Size
    threads: int
    seed: int
    folder: Path
    texts: tuple[str, ...] = ()
    source: str = "synthetic reports"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Of the bundle."""
        return Tokenizer(self.bundle.path("text"), self.bundle.text_part().tokenization)

    @cached_property
    def token(self) -> float:
        """Operations for a token."""
        return token_operations(self.bundle)

    @cached_property
    def image(self) -> float:
        """Operations for an image; 0 where the network is not BioViL's."""
        return image_operations(self.bundle)

    def write_pixels(self, count: int) -> str:
        """A file of phantoms in the shape of prepared images."""
        shape = self.bundle.image_part().preprocessing.shape
        file = self.folder / f"phantoms-{count}-{self.seed}.npy"
        if not file.exists():
            height, width = shape[-2:]
            phantoms = [chest_phantom(height, width, self.seed + index) for index in range(count)]
            np.save(file, np.stack([np.broadcast_to(phantom, shape) for phantom in phantoms]))
        return str(file)

    @cached_property
    def files(self) -> list[str]:
        """Paths of JPEG files."""
        return write_jpegs(self.folder, self.size.files, self.seed)

    @property
    def own(self) -> frozenset[str]:
        """Names of this engine's contestants."""
        return frozenset(entry.name for entry in self.entries if entry.opener == "engine")

    @property
    def own_fp32(self) -> str:
        """This engine in fp32, which is the reference's equal and faster to compare with; "" where it is not there."""
        found = (
            entry.name for entry in self.entries if entry.opener == "engine" and entry.contestant.precision == "fp32"
        )
        return next(found, "")


@dataclass(frozen=True)
class Workload:
    """A line of the table.

    Attributes:
        name: what users ask for.
        summary: for listings.
        parts: of the bundle that it needs.
        plans: its cases; None where it is measured in a way of its own (`cold_start`, `memory`).
        weight: of each case, when time is bound and shared out; 1 is what the least takes.
    """

    name: str
    summary: str
    parts: tuple[str, ...]
    plans: Callable[[Setting], Iterator[Plan]] | None = None
    weight: float = 1


def _plan(setting: Setting, case: Case, system: str, **given: object) -> Plan:
    return Plan(case, system, given, setting.threads)


def _text_case(
    setting: Setting, workload: str, name: str, title: str, texts: Sequence[str], parameters: dict[str, int]
) -> Plan:
    # Equal texts are computed once by whoever notices.
    tokens = sum(len(row) for row in {tuple(row) for row in setting.tokenizer.encode(texts)})
    case = Case(workload, name, title, "texts", len(texts), tokens * setting.token, REFERENCE.name, parameters)
    return _plan(setting, case, "texts", texts=list(texts))


def _corpus_texts(setting: Setting, count: int) -> list[str]:
    if setting.texts:
        chosen = setting.texts[:count]
        return [cut(text, setting.tokenizer) for text in chosen]
    return report_texts(count, setting.seed, setting.tokenizer)


def _texts(setting: Setting) -> Iterator[Plan]:
    texts = _corpus_texts(setting, setting.size.texts)
    mean = np.mean([len(row) for row in setting.tokenizer.encode(texts)])
    title = f"{len(texts)} {setting.source}, {mean:.0f} tokens in the mean: strings → embeddings"
    yield replace(_text_case(setting, "texts", "texts", title, texts, {"texts": len(texts)}), chief=True)


def _query(setting: Setting) -> Iterator[Plan]:
    texts = texts_of_length(QUERY_TOKENS, 1, setting.tokenizer)
    title = f"one query of {QUERY_TOKENS} tokens: string → embedding"
    yield _text_case(setting, "query", "query", title, texts, {"batch": 1, "tokens": QUERY_TOKENS})


def _shapes(setting: Setting) -> Iterator[Plan]:
    for batch, tokens in setting.size.shapes:
        texts = texts_of_length(tokens, batch, setting.tokenizer)
        title = f"{counted(batch, 'text')} of {tokens} tokens: strings → embeddings"
        yield _text_case(
            setting, "shapes", f"shapes-{batch}x{tokens}", title, texts, {"batch": batch, "tokens": tokens}
        )


def _corpus(setting: Setting) -> Iterator[Plan]:
    for count in setting.size.corpus:
        texts = _corpus_texts(setting, count)
        if setting.own_fp32 and len(texts) == count:
            title = f"{count} {setting.source}: strings → embeddings"
            plan = _text_case(setting, "corpus", f"corpus-{count}", title, texts, {"texts": count})
            yield _own(setting, plan, setting.threads)


def _threads(setting: Setting) -> Iterator[Plan]:
    texts = _corpus_texts(setting, _THREADS_TEXTS)
    for threads in dict.fromkeys([*(2**power for power in range(12) if 2**power < setting.threads), setting.threads]):
        if setting.own_fp32:
            title = f"{len(texts)} {setting.source} with {counted(threads, 'thread')}"
            plan = _text_case(setting, "threads", f"threads-{threads}", title, texts, {"threads": threads})
            yield _own(setting, plan, threads)


def _own(setting: Setting, plan: Plan, threads: int) -> Plan:
    """This engine alone, compared with itself in fp32, and without a share of the rate, which is all threads'."""
    case = replace(plan.case, operations=0.0, baseline=setting.own_fp32)
    return replace(plan, case=case, entries=setting.own, threads=threads)


def _files(setting: Setting) -> Iterator[Plan]:
    count = len(setting.files)
    title = f"{count} JPEG files of 2,500 × 2,048 → embeddings"
    case = Case("files", "files", title, "images", count, count * setting.image, REFERENCE.name, {"files": count})
    yield replace(_plan(setting, case, "images", images=setting.files), kind="files")


def _pixels(setting: Setting) -> Iterator[Plan]:
    for batch in setting.size.pixels:
        title = f"{counted(batch, 'prepared image')}: pixels → embeddings"
        name = f"pixels-{batch}"
        case = Case("pixels", name, title, "images", batch, batch * setting.image, REFERENCE.name, {"batch": batch})
        plan = _plan(setting, case, "images", pixels=setting.write_pixels(batch))
        yield replace(plan, chief=batch == _CHIEF_BATCH)


def _joint(setting: Setting) -> Iterator[Plan]:
    prompts = [[each.label, each.positive[0], each.negative[0]] for each in prompt_set("chexpert").prompts]
    tokens = sum(map(len, setting.tokenizer.encode([prompt for _, *pair in prompts for prompt in pair])))
    title = f"one JPEG file against {len(prompts)} × 2 prompts: file and strings → probabilities"
    operations = setting.image and setting.image + tokens * setting.token
    case = Case("joint", "joint", title, "images", 1, operations, REFERENCE.name, {"prompts": 2 * len(prompts)})
    yield _plan(setting, case, "joint", image=setting.files[0], prompts=prompts)


def _fill_mask(setting: Setting) -> Iterator[Plan]:
    texts = masked_texts(_MASK_TOKENS, _MASK_TEXTS, setting.tokenizer)
    title = f"{_MASK_TEXTS} texts of {_MASK_TOKENS} tokens with one mask each → five words"
    operations = _MASK_TEXTS * _MASK_TOKENS * setting.token
    parameters = {"batch": _MASK_TEXTS, "tokens": _MASK_TOKENS}
    case = Case("fill-mask", "fill-mask", title, "texts", _MASK_TEXTS, operations, REFERENCE.name, parameters)
    yield _plan(setting, case, "masks", texts=texts)


_TABLE = (
    Workload("texts", "a corpus of reports: strings → embeddings", ("text",), _texts, 10),
    Workload("query", "one short query: latency", ("text",), _query, 2),
    Workload("shapes", "fixed batches and lengths", ("text",), _shapes),
    Workload("corpus", "this engine: the rate against the number of texts", ("text",), _corpus),
    Workload("threads", "this engine: the rate against the number of threads", ("text",), _threads, 2),
    Workload("fill-mask", "words for a mask", ("text",), _fill_mask, 4),
    Workload("pixels", "prepared images, batches of 1 and 4, in full 16 as well", ("image",), _pixels, 4),
    Workload("files", "JPEG files end to end", ("image",), _files, 6),
    Workload("joint", "an image against pairs of prompts", ("text", "image"), _joint, 7),
    Workload("cold-start", "process start → first text embedding, and peak memory", ("text",), weight=5),
    Workload("memory", "this engine: resident memory while much is embedded", ("text",), weight=3),
    Workload("manners", "whether other tools open the bundle's text folder", ("text",), weight=3),
    Workload("loadgen", "MLPerf LoadGen's scenarios, this engine", ("text",), weight=5),
)
WORKLOADS: Mapping[str, Workload] = MappingProxyType({workload.name: workload for workload in _TABLE})
