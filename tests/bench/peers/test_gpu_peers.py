"""What runs on a GPU: who takes part, and that it is held against what runs there. The products themselves need one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.measuring import entry
from bench.measuring.participant import product
from bench.pages.content import content
from bench.peers import PEERS, torch_gpu_texts
from bench.peers.rates import GPU_RATES, RATE_OPERATIONS
from bench.record import MEASURED, Case, Rate, Report, Row
from bench.record.changes import compare_reports
from bench.record.contestant import on_device
from bench.record.gates import judge
from bench.record.headlines import WITHOUT_US, headlines
from bench.record.report import Contestant
from bench.workloads import contestants
from bench.workloads.contestants import choose, engines, peers
from bench.workloads.corpus import report_texts
from runtime.bundle import open_bundle
from runtime.engines.processor import Gpu
from runtime.text import Tokenizer
from tests.conftest import System
from tests.runtime.parts import tokenization

ON_GPU = [each for each in peers() if each.on_gpu]


@pytest.fixture(params=[None, Gpu("a GPU", (9, 0))], ids=["without", "with"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Gpu | None:
    for module in (contestants, entry):
        monkeypatch.setattr(module, "first_gpu", lambda: request.param)
    return request.param


def test_they_take_part_where_there_is_a_gpu(gpu: Gpu | None) -> None:
    names = {each.name for each in choose(peers(), [], full=True)}
    assert {each.name for each in ON_GPU} & names == ({each.name for each in ON_GPU} if gpu else set())
    assert {"reference-gpu", "torch-fp16-gpu", "onnxruntime-fp16-gpu"} <= {each.name for each in ON_GPU}
    assert not any("masks" in each.systems for each in ON_GPU)


def test_asked_for_by_name_they_say_why_not(gpu: Gpu | None) -> None:
    _, named = choose(peers(), ["torch-fp16-gpu"], full=False)
    missing = [each.unavailable() for each in (named, product("gpu-fp16"))]
    assert all(("no NVIDIA GPU" in reason) == (gpu is None) for reason in missing)


def test_every_precision_of_a_peer_there_has_a_product() -> None:
    assert {each.contestant.rate for each in ON_GPU} == set(GPU_RATES) <= set(RATE_OPERATIONS)
    assert Contestant("a", "a", "engine", precision="fp16").rate == "fp16"


def test_without_a_gpu_no_engine_is_on_one(tiny: System) -> None:
    assert not any(each.on_gpu for each in engines(open_bundle(tiny.bundle), ("texts",)))


@pytest.mark.parametrize("name", ["reference-gpu", "torch-fp32-gpu"])
def test_texts_in_large_batches_are_the_references(tiny: System, name: str) -> None:
    """The same code with another device."""
    texts = ["No pleural effusion!", *report_texts(5, 0, Tokenizer(tiny.bundle / "text", tokenization())), "Clear."]
    spec = {"bundle": str(tiny.bundle), "checkpoint": str(tiny.checkpoint), "threads": 1}
    expected = PEERS["reference"]["texts"](spec)({"texts": texts})()
    found = next(each for each in ON_GPU if each.name == name)
    answer = PEERS[found.opener]["texts"]({**spec, **found.told, "device": "cpu"})({"texts": texts})()
    assert judge("texts", answer, expected, "fp32").wrong == ""


UNPADDED = ("torch-varlen-fp32", "torch-graphs-fp32")


@pytest.mark.parametrize("opener", UNPADDED)
def test_texts_without_padding_and_as_graphs_are_the_references(
    tiny: System, opener: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With attention text by text, as FlashAttention and CUDA graphs need a GPU."""
    texts = ["No pleural effusion!", *report_texts(6, 0, Tokenizer(tiny.bundle / "text", tokenization())), "Clear."]
    spec = {"bundle": str(tiny.bundle), "checkpoint": str(tiny.checkpoint), "threads": 1, "texts": 3}
    expected = PEERS["reference"]["texts"](spec)({"texts": texts})()
    answer = PEERS[opener]["texts"](spec)({"texts": texts})()
    assert judge("texts", answer, expected, "fp32").wrong == ""
    monkeypatch.setattr(torch_gpu_texts, "_by_text", _as_one_text)
    answer = PEERS["torch-varlen-fp32"]["texts"](spec)({"texts": texts})()
    assert "differs" in judge("texts", answer, expected, "fp32").wrong, "tokens of other texts were attended to"


def _as_one_text(query: Any, key: Any, value: Any, ends: Any, longest: int) -> Any:
    import torch

    found = torch.nn.functional.scaled_dot_product_attention(*(each.transpose(0, 1) for each in (query, key, value)))
    return found.transpose(0, 1)


def test_a_peer_on_a_gpu_keeps_its_name() -> None:
    assert on_device("reference", True) == on_device("reference-gpu", True) == "reference-gpu"
    assert on_device("reference", False) == "reference"


CONTESTANTS = [
    Contestant("reference", "", "reference"),
    Contestant("torch-fp32", "", "peer"),
    Contestant("engine-cpu-fp32", "", "engine"),
    Contestant("reference-gpu", "", "peer", device="gpu"),
    Contestant("torch-fp16-gpu", "", "peer", precision="fp16", device="gpu"),
    Contestant("engine-cuda-fp16", "", "engine", precision="fp16", device="gpu"),
    Contestant("engine-cuda-fp32", "", "engine", device="gpu"),
]
SECONDS = (8.0, 4.0, 2.0, 0.4, 0.2, 0.1, 0.2)


def a_report(slower: dict[str, float] | None = None, seed: int = 0) -> Report:
    rng = np.random.default_rng(seed)

    def samples(name: str, seconds: float) -> list[list[float]]:
        return [[seconds * (slower or {}).get(name, 1.0) * float(np.exp(rng.normal(0, 0.005)))] for _ in range(5)]

    rows = [
        Row(each.name, MEASURED, samples=samples(each.name, value))
        for each, value in zip(CONTESTANTS, SECONDS, strict=True)
    ]
    rates = {name: Rate(1.0, samples(name, 0.05)) for name in ("fp32", "bf16", "int8", *GPU_RATES)}
    case = Case("texts", "texts", "made up", "texts", 8, 1.0, "reference", rows=rows, rates=rates)
    return Report(
        "2026-01-01T00:00:00+00:00",
        "python -m bench",
        machine={"processor": "a", "GPU": "b"},
        contestants=CONTESTANTS,
        cases=[case],
    )


def test_a_gpu_is_held_against_a_gpu() -> None:
    found = [(each.question, each.ours, each.theirs, each.against) for each in headlines(a_report())]
    asked = found[0][0]
    assert found == [
        (asked, "engine-cpu-fp32", "reference", "the reference"),
        (asked, "engine-cpu-fp32", "torch-fp32", WITHOUT_US),
        (f"{asked}, on the GPU", "engine-cuda-fp16", "reference-gpu", "the reference"),
        (f"{asked}, on the GPU", "engine-cuda-fp16", "torch-fp16-gpu", WITHOUT_US),
        (f"{asked}, on the GPU", "engine-cuda-fp32", "reference-gpu", "the reference"),
    ]


def test_the_page_names_the_gpu() -> None:
    report = a_report()
    assert " on a and b" in content(report, []).subtitle
    report.contestants = report.contestants[:3]
    assert " and b" not in content(report, []).subtitle, "a GPU that nothing ran on"


def test_a_slower_processor_makes_no_gpu_faster() -> None:
    on_processor = dict.fromkeys(["reference", "torch-fp32", "engine-cpu-fp32", "fp32", "bf16", "int8"], 1.5)
    found = compare_reports(a_report(), a_report(on_processor, seed=1))
    assert not [each for each in found.speeds if each.significant]
    assert not found.regressions
    found = compare_reports(a_report(), a_report({**on_processor, "engine-cuda-fp16": 1.3}, seed=1))
    assert {each.contestant for each in found.speeds if each.significant} == {"engine-cuda-fp16"}


def test_an_entry_is_told_its_device() -> None:
    assert all(each.told["device"] == "cuda" for each in ON_GPU)
    assert not any(replace(each.contestant, device="cpu").rate.startswith("gpu") for each in ON_GPU)
