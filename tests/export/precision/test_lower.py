"""Lower precisions through the public commands, on a tiny system."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import export.__main__ as command_line
import runtime
from export.build import CalibrationSources, export_bundle
from export.errors import CalibrationError
from export.precision import Lowering
from export.proof.verify import main as verify_main
from export.proof.verify import verify_bundle
from export.samples import chest_phantom
from runtime.bundle import EMBEDDING, Manifest
from runtime.bundle.precisions import PRECISIONS
from runtime.engines import PROVIDERS
from runtime.errors import ProviderError
from runtime.files import sha256_file
from tests.conftest import edit_json, run_module, tiny_family

pytestmark = pytest.mark.slow

SMALL = CalibrationSources(texts=64, texts_held_out=32, images_count=16, images_held_out=8)
TEXTS = ["No pleural effusion.", "Small left apical pneumothorax", "Heart size is enlarged"]


def plain(part):
    """The artifacts that take a text or an image a row."""
    return [artifact for artifact in part.artifacts if artifact.role == EMBEDDING]


@pytest.fixture(scope="module")
def lowered(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    out = tmp_path_factory.mktemp("lowered") / "bundle"
    lowering = Lowering(tuple(PRECISIONS), tensorrt=True)
    return out, export_bundle(tiny_family(), str(tiny_checkpoint), out, lowering=lowering, calibration=SMALL)


def _graph(bundle: Path, name: str) -> onnx.ModelProto:
    return onnx.load(str(bundle / name))


def test_the_command_line_knows_the_precisions(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["biovil", "--precision", "fp8"])
    assert f"unknown: fp8; there are: {', '.join(PRECISIONS)}" in " ".join(capsys.readouterr().err.split())
    assert command_line._parser().parse_args(["biovil", "--precision", ",".join(PRECISIONS)]).precision == tuple(
        PRECISIONS
    )


def test_every_precision_is_there_with_its_fidelity(lowered):
    manifest = lowered[1]
    text = {(found.precision, found.providers): found for found in plain(manifest.text)}
    assert sorted(precision for precision, _ in text) == ["bf16", "fp16", "fp32", "int8", "int8", "int8-dynamic"]
    assert sorted(found.precision for found in manifest.image.artifacts) == ["fp16", "fp32", "int8", "int8"]
    for found in (*plain(manifest.text), *manifest.image.artifacts):
        assert found.fidelity, found.file
        if found.precision in ("fp16", "bf16"):  # judged by a stand-in: no GPU here
            assert found.providers == ("cuda", "tensorrt")
        for record in found.fidelity:
            assert record.figures["mean_cosine"] > 0.98
            assert record.milliseconds > 0
        assert (found.recipe is not None) == found.precision.startswith("int8")
    computed = {record.precision for record in manifest.text.artifacts[0].fidelity if record.provider == "openvino"}
    if PROVIDERS["openvino"].refuses("bf16") is None:
        assert computed == {"fp32", "bf16"}
    assert manifest.calibration["text"].items == 64
    assert manifest.calibration["image"].held_out == 8


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_int8_runs_and_is_not_fp32(lowered, provider, precision):
    expected = runtime.load(lowered[0], provider=provider, precision="fp32", parts=["text"]).text.encode(TEXTS)
    engine = runtime.load(lowered[0], provider=provider, precision=precision, parts=["text"])
    found = engine.text.encode(TEXTS)
    assert engine.precision == {"text": precision}
    assert np.sum(found * expected, axis=1).min() > 0.99
    assert np.abs(found - expected).max() > 1e-6


def test_auto_takes_the_fastest_that_is_faithful_enough(lowered):
    bundle, manifest = lowered
    measured = {
        record.precision: record
        for artifact in manifest.text.artifacts
        for record in artifact.fidelity
        if record.provider == "cpu" and "cpu" in artifact.providers
    }
    fastest = min(measured.values(), key=lambda record: record.milliseconds)
    assert runtime.load(bundle, provider="cpu", parts=["text"]).precision == {"text": fastest.precision}
    strict = runtime.load(bundle, provider="cpu", parts=["text"], min_fidelity=1.0)
    assert strict.precision == {"text": "fp32"}


def test_int8_is_written_for_processors_and_for_tensorrt(lowered):
    for part in ("text", "image"):
        for name, activation in (("model_int8.onnx", np.uint8), ("model_int8_tensorrt.onnx", np.int8)):
            model = _graph(lowered[0], f"{part}/onnx/{name}")
            values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
            quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
            assert quantizers
            zeros = [values[node.input[2]] for node in quantizers]
            assert {zero.dtype.type for zero in zeros} == {activation}
            if activation is np.int8:
                assert not any(zero.any() for zero in zeros)
            weights = [
                node.input[0]
                for node in model.graph.node
                if node.op_type == "DequantizeLinear" and node.input[0] in values and values[node.input[0]].ndim > 1
            ]
            assert weights
            assert all(values[name].dtype == np.int8 for name in weights)


def test_query_key_and_value_share_one_quantizer(lowered):
    model = _graph(lowered[0], "text/onnx/model_int8.onnx")
    read = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    products = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and len(node.input) == 3]
    assert len(read) == len(set(read))
    assert len(read) < len(products) - len(read)


@pytest.fixture(scope="module")
def report(lowered) -> dict:
    """What the command line says of every artifact on every engine."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert command_line.main(["verify", str(lowered[0]), "--json"]) == 0
    return json.loads(printed.getvalue())


def test_verify_finds_what_the_export_recorded(lowered, report):
    assert {each["file"] for each in report["artifacts"]} == {
        artifact.file for artifact in (*plain(lowered[1].text), *lowered[1].image.artifacts)
    }
    for each in report["artifacts"]:
        # The same held-out data: the built-in split is seeded.
        assert each["found"]["data"] == each["recorded"]["data"]
        assert each["found"]["figures"]["mean_cosine"] == pytest.approx(
            each["recorded"]["figures"]["mean_cosine"], abs=1e-4
        )


def test_verify_compares_what_the_runtime_runs(report):
    """Every artifact's twin that takes several texts a row, on each engine that packs; images have none."""
    twins = [each for each in report["artifacts"] if each["packed"]]
    packed = {(each["file"], each["found"]["precision"], each["found"]["provider"]) for each in twins}
    files = {"model.onnx": "fp32", "model_int8.onnx": "int8", "model_int8_dynamic.onnx": "int8-dynamic"}
    expected = {(f"text/onnx/{file}", files[file], name) for file in files for name in ("cpu", "openvino")}
    if PROVIDERS["openvino"].refuses("bf16") is None:
        expected.add(("text/onnx/model.onnx", "bf16", "openvino"))
    assert packed == expected
    for each in twins:
        assert each["packed"]["gates"], "gated"
        assert each["packed"]["provider"] == each["found"]["provider"]
        assert each["packed"]["figures"]["min_cosine"] > 0.999
    assert report["missed"] == []


def test_verify_fails_where_a_packed_graph_is_another(lowered, tmp_path, capsys):
    copy = Path(shutil.copytree(lowered[0], tmp_path / "bundle"))
    spoilt = copy / "text" / "onnx" / "model_int8_packed.onnx"
    model = _graph(copy, "text/onnx/model_int8_packed.onnx")
    for node in model.graph.node:  # positions where segments belong: texts see each other
        node.input[:] = ["position_ids" if name == "segment_ids" else name for name in node.input]
    onnx.save(model, str(spoilt))

    def note(manifest: dict) -> None:
        entry = {"sha256": sha256_file(spoilt), "bytes": spoilt.stat().st_size}
        manifest["files"]["text/onnx/model_int8_packed.onnx"] = entry

    edit_json(copy / "manifest.json", note)
    assert verify_main([str(copy), "--provider", "cpu", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    (missed,) = report["missed"]
    assert missed.startswith("text/onnx/model_int8.onnx on cpu: packed: min_cosine is 0.")
    assert "at least 0.999 is allowed" in missed
    figures = {each["file"]: each["packed"] and each["packed"]["figures"] for each in report["artifacts"]}
    assert figures["text/onnx/model_int8.onnx"]["min_cosine"] < 0.999
    assert figures["text/onnx/model.onnx"]["max_abs"] <= 1e-5
    assert figures["image/onnx/model.onnx"] is None


def test_verify_takes_other_data_and_one_engine(lowered, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"Nodule of {index} mm in the left lung\n" for index in range(60)), encoding="utf-8")
    found = verify_bundle(lowered[0], text=texts, provider="cpu")
    assert {each.found.provider for each in found} == {"cpu"}
    recorded = lowered[1].calibration["text"].held_out_sha256
    assert all(each.found.data != recorded for each in found if each.part == "text")


def test_verify_of_an_engine_that_cannot_run_is_an_error_not_a_pass(lowered, capsys):
    assert command_line.main(["verify", str(lowered[0]), "--provider", "cuda"]) == 1
    printed, complaint = capsys.readouterr()
    assert "ProviderError: Provider 'cuda' was asked for" in complaint
    assert "holds here" not in printed


def test_a_graph_that_an_engine_cannot_open_is_an_error_not_a_gap(lowered, tmp_path, monkeypatch):
    """OpenVINO opens fp32, so nothing excuses it from int8."""
    opened = PROVIDERS["openvino"].open

    def picky(model, options):
        if options.precision == "int8":
            raise ProviderError("cannot open int8")
        return opened(model, options)

    openvino = dataclasses.replace(PROVIDERS["openvino"], open=picky)
    monkeypatch.setattr("export.proof.judge.PROVIDERS", {**PROVIDERS, "openvino": openvino})
    with pytest.raises(ProviderError, match="cannot open int8"):
        verify_bundle(lowered[0], provider="openvino")


@pytest.fixture(scope="module")
def dynamic(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A bundle whose text part has no fp32, which was not asked for."""
    out, lowering = tmp_path_factory.mktemp("dynamic") / "bundle", Lowering(("int8-dynamic",))
    return out, export_bundle(tiny_family(), str(tiny_checkpoint), out, lowering=lowering, calibration=SMALL)


def test_a_part_without_the_precision_keeps_fp32(dynamic):
    """int8-dynamic is of texts only."""
    out, manifest = dynamic
    assert [artifact.precision for artifact in plain(manifest.text)] == ["int8-dynamic"]
    assert [artifact.precision for artifact in manifest.image.artifacts] == ["fp32"]
    assert runtime.load(out, provider="cpu").precision == {"text": "int8-dynamic", "image": "fp32"}


def test_verify_fails_where_a_gate_no_longer_holds(lowered, tmp_path, capsys):
    copy = Path(shutil.copytree(lowered[0], tmp_path / "bundle"))

    def demand(manifest: dict) -> None:
        for artifact in manifest["text"]["artifacts"]:
            for record in artifact["fidelity"]:
                record["gates"] = {"neighbour_agreement": 1.5}

    edit_json(copy / "manifest.json", demand)
    assert verify_main([str(copy), "--provider", "cpu"]) == 1
    assert re.search(r"neighbour_agreement is .*at least 1\.5 is required", capsys.readouterr().out)


def test_a_part_without_fp32_runs_but_has_nothing_to_compare_with(dynamic, capsys):
    out, _ = dynamic
    assert not (out / "text" / "onnx" / "model.onnx_data").exists()
    engine = runtime.load(out, provider="cpu", parts=["text"])
    assert engine.precision == {"text": "int8-dynamic"}
    assert len(engine.text.fill_mask("Small [MASK]")) == 5, "the head has weights of its own"
    assert command_line.main(["verify", str(out)]) == 1
    assert "no text artifact in fp32 to compare with" in capsys.readouterr().err
    with pytest.raises(runtime.BundleError, match="int8-dynamic"):
        runtime.load(out, provider="cpu", precision="fp16")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "fp32,int4"], "unknown: int4; there are: fp32, fp16, bf16, int8, int8-dynamic"),
        (["--precision", ","], "unknown: nothing given"),
        (["--tier", "98"], "invalid choice: '98'"),
        (["--calibration-texts", "0"], "--calibration-texts: 0; at least 1 is expected"),
        (["--target", "tensorrt"], "--target tensorrt is a spelling of int8: add int8 to --precision"),
        (["--calibration-text", "a.txt"], "--calibration-text: fp32 needs no calibration"),
        (["--calibration-images", "films"], "--calibration-images: fp32 needs no calibration"),
    ],
)
def test_wrong_usage(arguments, message, tmp_path):
    process = run_module(
        "export", "biovil", "--checkpoint", "random", "--out", str(tmp_path / "out"), *arguments, expect=2
    )
    assert message in process.stderr


def test_unusable_calibration_data_leaves_no_bundle(tiny_checkpoint, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("", encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"empty\.txt"):
        export_bundle(
            tiny_family(),
            str(tiny_checkpoint),
            tmp_path / "out",
            lowering=Lowering(("int8",)),
            calibration=CalibrationSources(text=empty),
        )
    assert not (tmp_path / "out").exists()


def test_each_part_may_have_its_own_precision(lowered):
    engine = runtime.load(lowered[0], provider="cpu", precision={"text": "int8-dynamic", "image": "int8"})
    assert engine.precision == {"text": "int8-dynamic", "image": "int8"}
    with pytest.raises(runtime.InputError, match="precision names the part 'video'"):
        runtime.load(lowered[0], precision={"video": "int8"})


def test_images_can_be_embedded_in_int8(lowered):
    films = [chest_phantom(200, 180, seed) for seed in range(3)]
    expected = runtime.load(lowered[0], provider="cpu", precision="fp32", parts=["image"]).image.encode(films)
    found = runtime.load(lowered[0], provider="cpu", precision="int8", parts=["image"]).image.encode(films)
    assert np.sum(found * expected, axis=1).min() > 0.95
