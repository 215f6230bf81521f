"""What is measured: a table of workloads, each of one or more cases.

The operations counted are those of the models as published, per real token or per image: padding, packing and what the
rewrites save are not work done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.measuring import Plan
from bench.record import Case
from bench.workloads.archive import in_parts
from bench.workloads.contestants import REFERENCE
from bench.workloads.corpus import masked_texts, report_texts, texts_of_length
from bench.workloads.inputs import cut
from bench.workloads.setting import QUICK, WHOLE, Setting, Size
from runtime.bundle import Bundle
from runtime.bundle.parts import SOFTMAX
from runtime.process.wording import counted
from runtime.tasks.prompt_sets import prompt_set

__all__ = ["QUICK", "WHOLE", "WORKLOADS", "Setting", "Size", "Workload"]

QUERY_TOKENS = 16
_MASK_TOKENS, _MASK_TEXTS = 64, 8
_THREADS_TEXTS = 16
# Of prepared images; what is measured seldom takes part in it.
_CHIEF_BATCH = 4


@dataclass(frozen=True)
class Workload:
    """A line of the table.

    Attributes:
        name: what users ask for.
        summary: for listings.
        parts: of the bundle that it needs.
        masks: whether it needs a text tower that fills masks.
        plans: its cases; None where it is measured in a way of its own (`cold_start`, `memory`).
        weight: of each case, when time is bound and shared out; 1 is what the least takes.
    """

    name: str
    summary: str
    parts: tuple[str, ...]
    plans: Callable[[Setting], Iterator[Plan]] | None = None
    weight: float = 1
    masks: bool = False

    def fits(self, bundle: Bundle) -> bool:
        """Whether a bundle has what it needs."""
        text = bundle.manifest.text
        return set(self.parts) <= set(bundle.parts()) and not (self.masks and (text is None or not text.masked_words))


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
    rows = setting.tokenizer.encode(texts)
    texts, parts = in_parts(texts, rows, setting.seed)
    mean = np.mean([len(row) for row in rows])
    title = f"{len(texts):,} {setting.source}, {mean:.0f} tokens in the mean: strings → embeddings"
    yield replace(_text_case(setting, "texts", "texts", title, texts, {"texts": len(texts)}), chief=True, parts=parts)


def _batch(setting: Setting) -> Iterator[Plan]:
    texts = _corpus_texts(setting, setting.size.batch)
    title = f"{counted(len(texts), 'text')} of {setting.source} at once: strings → embeddings"
    yield _text_case(setting, "batch", "batch", title, texts, {"texts": len(texts)})


def _query(setting: Setting) -> Iterator[Plan]:
    texts = texts_of_length(QUERY_TOKENS, 1, setting.tokenizer)
    title = f"one query of {QUERY_TOKENS} tokens: string → embedding"
    yield _text_case(setting, "query", "query", title, texts, {"batch": 1, "tokens": QUERY_TOKENS})


def _shapes(setting: Setting) -> Iterator[Plan]:
    longest = setting.bundle.text_part().tokenization.max_length
    for batch, tokens in setting.size.shapes:
        if tokens > longest:
            continue
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
    """Labels against their opposites, or against each other, as the system was trained."""
    joint = setting.bundle.manifest.joint
    prompts = prompt_set("chexpert").prompts
    given: dict[str, Any] = {"image": setting.files[0]}
    if joint is not None and joint.score == SOFTMAX:
        name, what = "labels", f"{len(prompts)} labels"
        given |= {"prompts": [[each.label, each.positive[0]] for each in prompts], "scale": joint.logit_scale}
    else:
        name, what = "joint", f"{len(prompts)} × 2 prompts"
        given["prompts"] = [[each.label, each.positive[0], each.negative[0]] for each in prompts]
    texts = [text for _, *sides in given["prompts"] for text in sides]
    tokens = sum(map(len, setting.tokenizer.encode(texts)))
    title = f"one JPEG file against {what}: file and strings → probabilities"
    operations = setting.image and setting.image + tokens * setting.token
    case = Case("joint", name, title, "images", 1, operations, REFERENCE.name, {"prompts": len(texts)})
    yield _plan(setting, case, "joint", **given)


def _fill_mask(setting: Setting) -> Iterator[Plan]:
    texts = masked_texts(_MASK_TOKENS, _MASK_TEXTS, setting.tokenizer)
    title = f"{_MASK_TEXTS} texts of {_MASK_TOKENS} tokens with one mask each → five words"
    operations = _MASK_TEXTS * _MASK_TOKENS * setting.token
    parameters = {"batch": _MASK_TEXTS, "tokens": _MASK_TOKENS}
    case = Case("fill-mask", "fill-mask", title, "texts", _MASK_TEXTS, operations, REFERENCE.name, parameters)
    yield _plan(setting, case, "masks", texts=texts)


_TABLE = (
    Workload("texts", "an archive of reports: strings → embeddings", ("text",), _texts, 24),
    Workload("batch", "a few reports at once", ("text",), _batch, 3),
    Workload("query", "one short query: latency", ("text",), _query, 2),
    Workload("shapes", "fixed batches and lengths", ("text",), _shapes, 0.5),
    Workload("corpus", "this engine: the rate against the number of texts", ("text",), _corpus, 0.5),
    Workload("threads", "this engine: the rate against the number of threads", ("text",), _threads),
    Workload("fill-mask", "words for a mask", ("text",), _fill_mask, 5, masks=True),
    Workload("pixels", "prepared images, batches of 1 and 4, in full 16 as well", ("image",), _pixels, 4),
    Workload("files", "JPEG files end to end", ("image",), _files, 8),
    Workload("joint", "an image against prompts", ("text", "image"), _joint, 9),
    Workload("cold-start", "process start → first text embedding, and peak memory", ("text",), weight=5),
    Workload("memory", "this engine: resident memory while much is embedded", ("text",), weight=3),
    Workload("manners", "whether other tools open the bundle's text folder", ("text",), weight=3, masks=True),
    Workload("loadgen", "MLPerf LoadGen's scenarios, this engine", ("text",), weight=5),
)
WORKLOADS: Mapping[str, Workload] = MappingProxyType({workload.name: workload for workload in _TABLE})
