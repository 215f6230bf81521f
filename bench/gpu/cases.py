"""What a check of the GPU runs, and who takes part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from bench.measuring import Entry, Plan
from bench.peers import PEERS
from bench.peers.gpu_graphs import QUERY_LENGTHS
from bench.record import CPU, GPU, Case, Contestant
from bench.record.contestant import on_device
from bench.workloads.contestants import REFERENCE, engines
from bench.workloads.corpus import report_texts, texts_of_length
from bench.workloads.field import peers_of
from bench.workloads.model import Model
from bench.workloads.setting import Setting, Size
from bench.workloads.table import WORKLOADS
from runtime.engines import PROVIDERS

__all__ = ["PARITY", "SIZE", "TOKENS", "contestants", "plans"]

# Texts enough to compute in bulk, files enough for a batch of 16 that is not the last; 64 images are the peers' best.
SIZE = Size(texts=1024, batch=32, shapes=(), files=24, pixels=(4, 64), corpus=(), starts=0, requests=0, images=0)
# How the names of cases begin in which answers alone matter.
PARITY = "parity-"
# Openers of graphs that the check makes: for all texts, and for queries.
MADE, QUERIES = "made-graph", "query-graphs"
# A parameter of a case: the real tokens of all its texts.
TOKENS = "tokens in all"
_LENGTHS, _REPORTS, _IMAGES = (4, 7, 16, 33, 64, 128, 257, 512), 23, 8
_SYSTEMS = ("texts", "images")
# Compiled for minutes; graphs of a few lengths stand for it.
_LEFT_OUT = frozenset({"torch-compile-fp16-gpu"})
# A text at a time: of no use for an archive.
_QUERIES_ALONE = frozenset({"torch-graphs-fp16-gpu", "cuda-graphs-fp16"})


def contestants(model: Model, stand_in: bool) -> list[Entry]:
    """The reference on the processor, whose answers count; peers on the GPU; this engine there in every precision.

    Args:
        model: the bundle and its checkpoint.
        stand_in: all of them on the processor, which tries everything but what they are for.
    """
    peers = [
        replace(entry, seldom=False, full=False, left_out="")
        for entry in peers_of(model.bundle, model.checkpoint)
        if entry.name == REFERENCE.name or (entry.on_gpu and entry.name not in _LEFT_OUT)
    ]
    provider = "cpu" if stand_in else "cuda"
    ours = [
        replace(entry, seldom=False)
        for entry in engines(model.bundle, _SYSTEMS)
        if entry.contestant.provider == provider and entry.contestant.kind == "engine"
    ]
    if stand_in:
        peers = [moved for entry in peers for moved in _on_processor(entry)]
    return [*peers, *ours, *_made_graphs(model, provider)]


@dataclass(frozen=True)
class _Made:
    """A graph that the check makes of the bundle's fp32 graph.

    Attributes:
        name: of the contestant.
        label: how it is called.
        note: what it is.
        precision: of the graph.
        opener: `MADE` or `QUERIES`.
        told: to the opener.
    """

    name: str
    label: str
    note: str
    precision: str = "fp16"
    opener: str = MADE
    told: Mapping[str, bool] = field(default_factory=dict)


_ATTENTION = "opset 24, padding told by nonpad_kv_seqlen, one product for queries, keys and values"
_RESIDUALS = "residuals and norms in half precision, sums in float32: an addition and the norm after it in one kernel"
_MADE = (
    *(
        _Made(
            f"attention-graph-{precision}",
            f"this engine's batches, ONNX's Attention operator, {precision}",
            _ATTENTION,
            precision,
            told={"attention": True},
        )
        for precision in ("fp32", "fp16")
    ),
    _Made(
        "half-residuals-fp16",
        "this engine's batches, half residuals, fp16",
        _RESIDUALS,
        told={"half_residuals": True},
    ),
    _Made(
        "attention-half-residuals-fp16",
        "this engine's batches, Attention operator and half residuals, fp16",
        f"{_ATTENTION}; {_RESIDUALS}",
        told={"attention": True, "half_residuals": True},
    ),
    _Made(
        "cuda-graphs-fp16",
        "queries of fixed lengths by CUDA graphs, fp16",
        f"padded to {', '.join(map(str, QUERY_LENGTHS))} tokens, inputs and output at fixed addresses",
        opener=QUERIES,
    ),
)


def _made_graphs(model: Model, provider: str) -> Iterator[Entry]:
    """This engine's texts by other graphs: is one of them worth an artifact of its own?"""
    text = model.bundle.manifest.text
    if text is None or text.attention != "bidirectional":
        return
    for made in _MADE:
        contestant = Contestant(
            made.name,
            made.label,
            "option",
            provider=provider,
            precision=made.precision,
            note=f"made of the bundle's fp32 graph for this check: {made.note}; not an artifact of the bundle",
            device=GPU if PROVIDERS[provider].extra == "gpu" else CPU,
        )
        told = {"provider": provider, "precision": made.precision, **made.told}
        yield Entry(contestant, made.opener, ("texts",), ("onnx", "networkx"), told=told)


def _on_processor(entry: Entry) -> Iterator[Entry]:
    """The same on the processor, if it can be there."""
    opener = entry.opener.removesuffix("-gpu")
    if opener in PEERS:
        told = {**entry.told, "device": CPU} if "device" in entry.told else entry.told
        label = entry.contestant.label.replace("on the GPU", "in the GPU's place")
        contestant = replace(entry.contestant, device=CPU, label=label)
        yield replace(entry, contestant=contestant, opener=opener, told=told)


def plans(setting: Setting) -> list[tuple[Plan, float]]:
    """The cases in order, those of a system together, each with its weight when time is shared out."""
    return [*_of_texts(setting), *_of_images(setting)]


def _of_texts(setting: Setting) -> Iterator[tuple[Plan, float]]:
    if "text" not in setting.bundle.parts():
        return
    longest = setting.bundle.text_part().tokenization.max_length
    fitting = [length for length in _LENGTHS if length <= longest]
    texts = [text for length in fitting for text in texts_of_length(length, 1, setting.tokenizer)]
    texts += report_texts(_REPORTS, setting.seed, setting.tokenizer)
    yield (
        _parity(
            setting, "texts", f"{len(texts)} texts of {fitting[0]} to {fitting[-1]} tokens", len(texts), texts=texts
        ),
        1,
    )
    for name, weight in (("texts", 6), ("query", 2)):
        plan = _beside_the_gpu(setting, name)
        count = sum(map(len, setting.tokenizer.encode(plan.given["texts"])))
        plan.case.parameters[TOKENS] = count
        yield plan, weight


def _of_images(setting: Setting) -> Iterator[tuple[Plan, float]]:
    if "image" not in setting.bundle.parts():
        return
    title = f"{_IMAGES} prepared images"
    yield _parity(setting, "images", title, _IMAGES, pixels=setting.write_pixels(_IMAGES)), 1
    yield _beside_the_gpu(setting, "files"), 5
    for plan in _all_of(setting, "pixels"):
        yield plan, 2


def _parity(setting: Setting, system: str, title: str, count: int, **given: object) -> Plan:
    """This engine's answers beside those of the reference on the processor."""
    case = Case("parity", f"{PARITY}{system}", f"{title}: this engine's answers", system, count, 0.0, REFERENCE.name)
    options = {entry.name for entry in setting.entries if entry.opener == MADE}
    return Plan(case, system, given, setting.threads, entries=setting.own | options)


def _beside_the_gpu(setting: Setting, workload: str) -> Plan:
    (plan,) = _all_of(setting, workload)
    return plan


def _all_of(setting: Setting, workload: str) -> list[Plan]:
    """A workload's cases, held against the reference on the GPU: on the processor it would take minutes."""
    describe = WORKLOADS[workload].plans
    assert describe is not None, "these have cases"
    known = {entry.name for entry in setting.entries}
    baseline = on_device(REFERENCE.name, True)
    baseline = baseline if baseline in known else REFERENCE.name
    left_out = {REFERENCE.name, *(() if workload == "query" else _QUERIES_ALONE)} - {baseline}
    return [
        replace(plan, case=replace(plan.case, baseline=baseline), entries=frozenset(known - left_out), chief=True)
        for plan in describe(setting)
    ]
