"""What misses is left out with its files, and recorded; fp32 and faults of the program never are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from export.errors import GateError, GraphError
from export.graphs import GraphInfo
from export.precision import Lowering
from export.precision.lower import artifact, fp32_stays
from export.precision.misses import Asked, Misses
from export.precision.remedies import remedy
from export.progress import Steps
from runtime.bundle.artifacts import LeftOut, Trial
from runtime.errors import InputError, MissingExtraError, ProviderError

INT8 = Asked("text", "int8", "text/onnx/model_int8.onnx", ("cpu", "openvino"))
TENSORRT = Asked("text", "int8", "text/onnx/model_int8_tensorrt.onnx", ("tensorrt",))
FP32 = Asked("text", "fp32", "text/onnx/model.onnx", ("cpu",))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "text/onnx"
    folder.mkdir(parents=True)
    for name in ("model.onnx", "model_int8.onnx", "model_int8.onnx_data", "model_int8_tensorrt.onnx"):
        (folder / name).touch()
    return tmp_path


def begun(bundle: Path, on_miss: str = "leave-out", tier: str = "99.9") -> tuple[Misses, io.StringIO]:
    printed = io.StringIO()
    steps = Steps(Console(file=printed))
    return Misses(bundle, Lowering(("int8",), tier, on_miss=on_miss), steps), printed


def miss() -> GateError:
    trials = (Trial("cheap", "cpu", {"mean_cosine": 0.9}, 1.0, False, "below the tier"),)
    return GateError(
        "No recipe", ["too far"], required={"mean_cosine": 0.99}, best={"mean_cosine": 0.9}, trials=trials, cause="time"
    )


def test_what_was_made_inside_goes_and_so_does_what_is_named(bundle):
    misses, printed = begun(bundle)
    with misses.leaving_out(INT8, made=["text/onnx/model_int8.onnx", "text/onnx/model_int8.onnx_data"]):
        (bundle / "text/onnx/model_int8_packed.onnx").touch()
        raise miss()
    left = sorted(path.name for path in (bundle / "text/onnx").iterdir())
    assert left == ["model.onnx", "model_int8_tensorrt.onnx"]
    (found,) = misses.left_out
    assert found == LeftOut(
        part="text",
        precision="int8",
        file="text/onnx/model_int8.onnx",
        providers=("cpu", "openvino"),
        tier="99.9",
        cause="time",
        reason="too far",
        required={"mean_cosine": 0.99},
        best={"mean_cosine": 0.9},
        trials=miss().trials,
    )
    assert misses.of("text") == [found]
    assert misses.of("image") == []
    assert printed.getvalue() == "  text int8 for cpu, openvino is left out: too far\n"


def test_what_holds_stays(bundle):
    misses, _ = begun(bundle)
    with misses.leaving_out(INT8, made=["text/onnx/model_int8.onnx"]):
        (bundle / "text/onnx/model_int8_packed.onnx").touch()
    assert misses.left_out == []
    assert len(list((bundle / "text/onnx").iterdir())) == 5


@pytest.mark.parametrize(
    "error",
    [
        GraphError("no such operator"),
        ProviderError("out of memory"),
        MissingExtraError("Quantizing images", "nncf", "export"),
    ],
)
def test_what_cannot_be_made_or_run_is_left_out_too(bundle, error):
    misses, _ = begun(bundle)
    with misses.leaving_out(INT8, TENSORRT):
        raise error
    assert [left.file for left in misses.left_out] == [INT8.file, TENSORRT.file]
    assert {left.cause for left in misses.left_out} == {"error"}
    assert misses.left_out[0].reason == f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(
    ("asked", "on_miss", "error"),
    [
        (INT8, "fail", miss()),
        (INT8, "fail", ProviderError("out of memory")),
        (FP32, "leave-out", miss()),
        (INT8, "leave-out", TypeError("a fault of the program")),
    ],
)
def test_what_ends_the_export(bundle, asked, on_miss, error):
    misses, _ = begun(bundle, on_miss)
    with pytest.raises(type(error)), misses.leaving_out(asked, made=["text/onnx/model_int8.onnx"]):
        raise error
    assert misses.left_out == []
    assert (bundle / "text/onnx/model_int8.onnx").exists()


def made(precision: str, *providers: str):
    return artifact(f"text/onnx/{precision}.onnx", precision, GraphInfo(18, {}, (), ()), providers)


@pytest.mark.parametrize(
    ("precisions", "others", "left_out", "stays"),
    [
        (("fp32", "int8"), [made("int8", "cpu")], [], True),
        (("int8",), [made("int8", "cpu")], [], False),
        (("bf16",), [], [], True),  # computed from it
        (("int8-dynamic",), [], [], True),  # of an image part, which has none
        (("int8",), [], [INT8], True),
        (("int8",), [made("int8", "cpu", "openvino")], [TENSORRT], True),  # TensorRT would have nothing
        (("int8", "int8-dynamic"), [made("int8-dynamic", "cpu", "openvino")], [INT8], False),
        (("fp16", "int8"), [made("fp16", "cuda", "tensorrt")], [INT8], True),
    ],
)
def test_fp32_stays_where_an_engine_would_have_nothing(tmp_path, precisions, others, left_out, stays):
    misses, _ = begun(tmp_path)
    for asked in left_out:
        with misses.leaving_out(asked):
            raise miss()
    assert fp32_stays(others, misses.left_out, Lowering(precisions)) is stays


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("text", "int8", "99", "fidelity"),
            "Calibrate with more of your own data (--calibration-text), or leave int8 out of --precision.",
        ),
        (
            ("image", "int8", "99.9", "fidelity"),
            "Calibrate with more of your own data (--calibration-images), ask for less with --tier 99, or leave int8 "
            "out of --precision.",
        ),
        (("text", "fp16", None, "fidelity"), "Leave fp16 out of --precision."),
        (("text", "int8", "99.9", "error"), "Mend what the message says, or leave int8 out of --precision."),
    ],
)
def test_what_to_do_is_never_what_was_done(arguments, sentence):
    assert remedy(*arguments) == sentence


def test_options_are_checked():
    with pytest.raises(InputError, match="on_miss is 'leave_out'; 'leave-out' or 'fail' is expected"):
        Lowering(on_miss="leave_out")
    for minutes in (0, -1, float("nan")):
        with pytest.raises(InputError, match=r"search_minutes is .*above 0"):
            Lowering(search_minutes=minutes)
