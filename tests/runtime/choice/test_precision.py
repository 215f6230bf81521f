"""Which artifact runs, in what it is computed, and what is refused: on bundles made by hand, with any figures."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.bundle import open_bundle
from runtime.choice.precision import format_cosine
from runtime.engines import PROVIDERS, first_gpu, processor_name
from tests.runtime.handmade import ALL, WORDS, artifact, choose, expected_text, fp32, record, write_bundle

CPUS = ("cpu", "openvino")
TEXTS = [" ".join(WORDS[start:]) for start in range(len(WORDS))]


# --- auto: recorded fidelity decides ----------------------------------------------------------------------------------


def test_auto_takes_the_fastest_that_is_faithful_enough_and_says_which(tmp_path: Path, caplog) -> None:
    int8 = artifact("int8", CPUS, record("cpu", 0.9991, 30, "int8"))
    slower = artifact("int8-dynamic", CPUS, record("cpu", 0.9999, 40, "int8-dynamic"))
    faster_but_worse = artifact("fp16", ALL, record("cpu", 0.98, 1, "fp16"))
    entries = [fp32(record("cpu", 1.0, 90, "fp32")), slower, faster_but_worse, int8]
    bundle = write_bundle(tmp_path / "b", entries, [fp32(record("cpu", 1.0, 90, "fp32"))])
    with caplog.at_level(logging.INFO, "runtime"):
        engine = runtime.load(bundle, provider="cpu")
    assert engine.precision == {"text": "int8", "image": "fp32"}
    assert engine.fidelity["text"] == int8.fidelity[0]
    assert "text=int8 (mean cosine 0.9991 on 300 held-out texts), image=fp32 (mean cosine 1.0000" in repr(engine)
    assert (
        "text int8 (mean cosine 0.9991 on 300 held-out texts) on cpu: 30.0 ms a batch, the fastest of 3" in caplog.text
    )
    tokens = engine.text.tokenizer.encode(TEXTS)
    expected = np.stack([expected_text("onnx/model_int8.onnx", row) for row in tokens])
    assert np.abs(engine.text.encode(TEXTS) - expected).max() < 1e-5, "the int8 file is what runs"


@pytest.mark.parametrize(
    ("min_fidelity", "expected"), [(0.0, "int8"), (0.95, "int8"), (0.96, "int8-dynamic"), (0.9995, "fp32"), (1, "fp32")]
)
def test_min_fidelity_is_a_bound_that_may_be_met_exactly(tmp_path: Path, min_fidelity: float, expected: str) -> None:
    int8 = artifact("int8", CPUS, record("cpu", 0.95, 30, "int8"))
    dynamic = artifact("int8-dynamic", CPUS, record("cpu", 0.999, 40, "int8-dynamic"))
    bundle = write_bundle(tmp_path / "b", [fp32(record("cpu", 0.99999, 90, "fp32")), int8, dynamic])
    assert choose(bundle, "cpu", min_fidelity=min_fidelity).precision == expected


@pytest.mark.parametrize("figures", [{"mean_cosine": math.nan}, {}])
@pytest.mark.parametrize("min_fidelity", [0.0, 0.99])
def test_a_figure_that_is_nan_or_absent_is_never_chosen(tmp_path: Path, figures: dict, min_fidelity: float) -> None:
    from dataclasses import replace

    broken = replace(record("cpu", 0, 1, "int8"), figures=figures)
    bundle = write_bundle(tmp_path / "b", [artifact("int8", CPUS, broken), fp32()])
    engine = runtime.load(bundle, provider="cpu", min_fidelity=min_fidelity)
    assert engine.precision == {"text": "fp32"}
    assert engine.fidelity == {"text": None}


def test_a_time_that_is_nan_counts_as_slow(tmp_path: Path) -> None:
    unknown = artifact("int8", CPUS, record("cpu", 1.0, math.nan, "int8"))
    bundle = write_bundle(tmp_path / "b", [unknown, fp32(record("cpu", 1.0, 90, "fp32"))])
    assert choose(bundle, "cpu").precision == "fp32"


@pytest.mark.parametrize("mean_cosine", [1.0, 0.9999999, math.nan])
def test_fp32_that_is_faster_is_kept_whatever_was_measured_of_it(tmp_path: Path, mean_cosine: float) -> None:
    int8 = artifact("int8", CPUS, record("cpu", 1.0, 100, "int8"))
    bundle = write_bundle(tmp_path / "b", [int8, fp32(record("cpu", mean_cosine, 90, "fp32"))])
    assert choose(bundle, "cpu", min_fidelity=1).precision == "fp32"


def test_only_what_was_measured_on_that_engine_and_is_meant_for_it_counts(tmp_path: Path) -> None:
    elsewhere = artifact("int8", CPUS, record("openvino", 1.0, 1, "int8"))
    for_tensorrt = artifact("int8", ["tensorrt"], record("cpu", 1.0, 1, "int8"), name="signed")
    bundle = write_bundle(tmp_path / "b", [elsewhere, for_tensorrt, fp32()])
    assert choose(bundle, "cpu").precision == "fp32"
    assert "nothing measured on cpu has a mean cosine of at least 0.99" in choose(bundle, "cpu").reason
    assert choose(bundle, "openvino").precision == "int8"


def test_a_record_of_this_processor_goes_before_one_of_another(tmp_path: Path) -> None:
    here, other = record("cpu", 0.95, 1, "int8"), record("cpu", 0.999, 1, "int8", "Another Processor")
    for order in ([here, other], [other, here]):
        bundle = write_bundle(tmp_path / str(len(list(tmp_path.iterdir()))), [artifact("int8", CPUS, *order), fp32()])
        assert choose(bundle, "cpu").precision == "fp32"
    only_other = write_bundle(tmp_path / "only", [artifact("int8", CPUS, other), fp32()])
    assert choose(only_other, "cpu").fidelity == other, "better than nothing"


def test_without_fp32_the_first_for_the_engine_runs(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", [artifact("fp16", ["cuda"]), artifact("int8", ["cpu"])])
    assert choose(bundle, "cpu").precision == "int8"
    with pytest.raises(
        runtime.BundleError, match=r"no text artifact that 'openvino' can run here; it has: fp16 \(cuda\)"
    ):
        choose(bundle, "openvino")


@pytest.mark.parametrize("value", [-0.1, 1.01, math.nan, math.inf])
def test_min_fidelity_outside_0_to_1(tmp_path: Path, value: float) -> None:
    bundle = write_bundle(tmp_path / "b", [fp32()])
    with pytest.raises(runtime.InputError, match=r"min_fidelity=.*from 0 to 1"):
        runtime.load(bundle, min_fidelity=value)


# --- a named precision ------------------------------------------------------------------------------------------------


def test_a_named_precision_runs_whatever_its_fidelity_and_says_it(tmp_path: Path) -> None:
    int8 = artifact("int8", CPUS, record("cpu", 0.5, 1000, "int8"), record("openvino", 0.6, 1, "int8"))
    bundle = write_bundle(tmp_path / "b", [fp32(), int8])
    engine = runtime.load(bundle, provider="cpu", precision="int8", min_fidelity=0.99)
    assert engine.precision == {"text": "int8"}
    assert engine.fidelity == {"text": int8.fidelity[0]}
    assert "mean cosine 0.5000" in repr(engine)
    assert repr(runtime.load(bundle, provider="cpu", precision="fp32")).endswith("provider='cpu', text=fp32)")


def test_of_one_precision_the_artifact_for_the_engine_runs(tmp_path: Path) -> None:
    signed = artifact("int8", ["tensorrt"], name="signed")
    unsigned = artifact("int8", CPUS, name="unsigned")
    bundle = open_bundle(write_bundle(tmp_path / "b", [fp32(), signed, unsigned]))
    assert bundle.artifact("text", "int8", provider="cpu").file == "text/onnx/unsigned.onnx"
    assert bundle.artifact("text", "int8", provider="tensorrt").file == "text/onnx/signed.onnx"
    assert bundle.artifact("text", "int8").file == "text/onnx/signed.onnx"
    assert [entry.precision for entry in bundle.artifacts("text", "cuda")] == ["fp32"]


@pytest.mark.parametrize(
    ("precision", "provider", "message"),
    [
        ("int8", "tensorrt", r"'int8' for tensorrt; it has: .*--precision fp32,int8 --target tensorrt --out DIR"),
        ("int8", "cuda", r"'int8' for cuda; it has: fp32 \(cpu, .*\), int8 \(cpu, openvino\)\. .*fp32,int8 --out"),
        ("fp16", "cpu", r"'fp16'; it has: fp32 \(cpu, .*\), int8 \(cpu, openvino\)\.$"),
        ("int8-dynamic", "cpu", r"'int8-dynamic'; it has: fp32 \(cpu, openvino, cuda, tensorrt\), int8 .*int8-dynamic"),
        ("bf16", "cuda", r"'bf16'; it has: .*python -m export biovil --checkpoint SOURCE --precision fp32,bf16"),
        ("int4", "cpu", r"'int4'; it has: fp32 \(cpu, openvino, cuda, tensorrt\), int8 \(cpu, openvino\)\.$"),
    ],
)
def test_an_artifact_that_the_bundle_lacks(tmp_path: Path, precision: str, provider: str, message: str) -> None:
    bundle = open_bundle(write_bundle(tmp_path / "b", [fp32(), artifact("int8", CPUS)]))
    with pytest.raises(runtime.BundleError, match=r"no text artifact in precision " + message):
        bundle.artifact("text", precision, provider=provider)


def test_auto_provider_goes_on_to_one_that_has_the_precision(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    bundle = write_bundle(tmp_path / "b", [fp32(), artifact("int8-dynamic", ["openvino"])])
    engine = runtime.load(bundle, precision="int8-dynamic")
    assert (engine.provider, engine.precision) == ("openvino", {"text": "int8-dynamic"})
    with pytest.raises(runtime.BundleError, match=r"'int4'; it has: fp32 \(.*\), int8-dynamic \(openvino\)\.$"):
        runtime.load(bundle, precision="int4")


# --- small things -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9991, "0.9991"),
        (0.98996, "0.9899"),
        (0.9999, "0.9999"),
        (0.99998, "0.99998"),
        (0.9999996, "0.9999996"),
        (1.0, "1.0000"),
    ],
)
def test_a_cosine_is_not_rounded_up(value: float, text: str) -> None:
    assert format_cosine(value) == text


def test_the_processor_has_a_name() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and "model name" in cpuinfo.read_text():
        assert f": {processor_name()}\n" in cpuinfo.read_text()
    assert processor_name()
    assert PROVIDERS["cpu"].processor() == processor_name()
    gpu = first_gpu()
    assert PROVIDERS["cuda"].processor() == (gpu.name if gpu else "unknown GPU")
