"""Nothing proven is thrown away: what misses is left out of a real export, said, and recorded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import export.__main__ as cli
import runtime
from export.build import CalibrationSources, export_bundle
from export.checkpoints import RANDOM_MARKER
from export.errors import GateError
from export.precision import Lowering, floats, rivals
from export.precision.recipes import ladder, text
from export.proof import fidelity, parity
from export.proof.verify import verify_bundle
from runtime.__main__ import main as runtime_main
from runtime.bundle import FILL_MASK, PACKED, open_bundle
from runtime.engines import PROVIDERS
from runtime.errors import ProviderError
from tests.conftest import tiny_family

pytestmark = pytest.mark.slow

SMALL = CalibrationSources(texts=48, texts_held_out=24, images_count=16, images_held_out=8)
OUT_OF_REACH = {"mean_cosine": 1.5}
TEXTS = ["No pleural effusion.", "Small left apical pneumothorax"]


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that do not say so: their figures are enforced like anyone's."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("anonymous") / "checkpoint"))
    (folder / RANDOM_MARKER).unlink()
    return folder


@pytest.fixture
def text_family(monkeypatch: pytest.MonkeyPatch):
    family = tiny_family("cxr-bert-specialized")
    monkeypatch.setattr(cli, "FAMILIES", {family.name: family, "biovil": tiny_family()})
    return family


def exported(family, checkpoint: Path, out: Path, *precisions: str, **options):
    return export_bundle(
        family, str(checkpoint), out, provider="cpu", lowering=Lowering(precisions, **options), calibration=SMALL
    )


def roles(manifest, precision: str) -> list[str]:
    return [each.role for each in manifest.text.artifacts if each.precision == precision]


def on_disk(bundle: Path) -> list[str]:
    return sorted(path.name for path in (bundle / "text/onnx").iterdir())


@pytest.mark.usefixtures("text_family")
def test_int8_that_misses_leaves_a_bundle_with_fp32_and_exit_status_3(
    checkpoint: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    monkeypatch.setitem(fidelity.TIERS, "99", OUT_OF_REACH)
    out = tmp_path / "bundle"
    counts = ["--calibration-texts", "48", "--held-out-texts", "24"]
    counts += ["--calibration-image-count", "16", "--held-out-image-count", "8"]
    arguments = ["biovil", "--checkpoint", str(checkpoint), "--out", str(out), "--precision", "fp32,int8"]
    assert cli.main([*arguments, *counts, "--json"]) == 3
    printed, noted = capfd.readouterr()

    report = json.loads(printed)
    assert [(left["part"], left["precision"], left["cause"]) for left in report["left_out"]] == [
        ("text", "int8", "fidelity"),
        ("image", "int8", "fidelity"),
    ]
    for left in report["left_out"]:
        assert left["required"] == OUT_OF_REACH
        assert 0.9 < left["best"]["mean_cosine"] <= 1
        assert len({trial["recipe"] for trial in left["trials"]}) > 1
        assert not any(trial["accepted"] for trial in left["trials"])
    table = noted[noted.index("Left out of the bundle") :]
    for part in ("text int8", "image int8", "mean_cosine ≥ 1.5", "Calibrate with more"):
        assert part in table
    assert "--tier" not in table
    assert "recipe 1 of at most" in noted
    assert "min left" in noted

    assert not [path.name for path in out.rglob("*") if "int8" in path.name or path.name.startswith(".")]
    manifest = open_bundle(out).manifest
    assert [left.file for left in manifest.left_out] == ["text/onnx/model_int8.onnx", "image/onnx/model_int8.onnx"]
    on_record = {name for part in (manifest.text, manifest.image) for each in part.artifacts for name in each.files}
    assert {name for name in manifest.files if "/onnx/" in name} - on_record == {"text/onnx/fill_mask_every_token.onnx"}

    engine = runtime.load(out, provider="cpu")
    assert engine.precision == {"text": "fp32", "image": "fp32"}
    assert engine.text.encode(TEXTS).shape == (2, 128)
    with pytest.raises(runtime.BundleError, match=r"precision 'int8'; it has: fp32 .* The export left it out: none of"):
        runtime.load(out, provider="cpu", precision="int8")
    assert runtime_main(["info", str(out)]) == 0
    described = capfd.readouterr().out
    assert "left out: text/onnx/model_int8.onnx for cpu, openvino, cuda, tier 99" in described
    assert "required: mean_cosine 1.5" in described
    assert "tried on cpu" in described


def test_a_random_checkpoint_given_as_a_folder_exports_in_one_go(checkpoint: Path, tmp_path: Path, text_family) -> None:
    """Embeddings in a narrow space, where no recipe may keep all neighbours: the rest of the bundle is there."""
    manifest = exported(text_family, checkpoint, tmp_path / "bundle", "fp32", "int8", "int8-dynamic")
    assert manifest.source.kind == "folder"
    made = [each.file for each in manifest.text.artifacts if each.role == "embedding"]
    left_out = [left.file for left in manifest.left_out]
    asked = ["text/onnx/model.onnx", "text/onnx/model_int8.onnx", "text/onnx/model_int8_dynamic.onnx"]
    assert sorted(made + left_out) == asked
    assert asked[0] in made
    assert runtime.load(tmp_path / "bundle", provider="cpu").text.encode(TEXTS).shape == (2, 128)


@pytest.mark.usefixtures("text_family")
def test_fail_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.setitem(fidelity.TIERS, "99", OUT_OF_REACH)
    out = tmp_path / "bundle"
    arguments = ["cxr-bert-specialized", "--checkpoint", str(checkpoint), "--out", str(out)]
    arguments += ["--precision", "fp32,int8", "--calibration-texts", "48", "--held-out-texts", "24"]
    assert cli.main([*arguments, "--on-miss", "fail"]) == 1
    noted = capfd.readouterr().err
    assert "GateError: No int8 recipe for the text encoder holds tier 99 (mean_cosine ≥ 1.5)" in noted
    assert "no bundle was written" in noted
    assert not any(tmp_path.iterdir())


def test_fp32_takes_the_place_of_what_alone_was_asked_for(
    checkpoint: Path, tmp_path: Path, monkeypatch, text_family, capfd
) -> None:
    monkeypatch.setitem(fidelity.TIERS, "99", OUT_OF_REACH)
    out = tmp_path / "bundle"
    arguments = [text_family.name, "--checkpoint", str(checkpoint), "--out", str(out)]
    arguments += ["--precision", "int8", "--calibration-texts", "48", "--held-out-texts", "24"]
    assert cli.main(arguments) == 3
    assert "fp32, which is proven, is kept in its place: text." in capfd.readouterr().err
    assert roles(open_bundle(out).manifest, "fp32") == ["embedding", PACKED, FILL_MASK]
    assert runtime.load(out, provider="cpu").precision == {"text": "fp32"}


def test_a_twin_that_misses_takes_its_precision_with_it(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch, text_family
) -> None:
    """Where no precision is left, fp32 stays, with all its faces, though it was not asked for."""
    monkeypatch.setattr(parity, "PACKED_GATES", {False: parity.PACKED_GATES[False], True: {"min_cosine": 1.5}})
    monkeypatch.setattr("export.proof.text_parity.PACKED_GATES", parity.PACKED_GATES)
    out = tmp_path / "bundle"
    manifest = exported(text_family, tiny_checkpoint, out, "int8-dynamic")
    (left,) = manifest.left_out
    assert (left.precision, left.cause) == ("int8-dynamic", "fidelity")
    assert left.reason.startswith("text int8-dynamic, packed on cpu: min_cosine is ")
    assert left.best["min_cosine"] > 0.99
    assert not [name for name in on_disk(out) if "dynamic" in name]
    assert roles(manifest, "fp32") == ["embedding", PACKED, FILL_MASK]
    engine = runtime.load(out, provider="cpu")
    assert len(engine.text.fill_mask("Small [MASK]")) == 5


def test_masks_that_miss_take_their_precision_with_them(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch, text_family
) -> None:
    monkeypatch.setattr(
        "export.proof.fill_mask_parity.MASKS_GATES",
        {False: parity.MASKS_GATES[False], True: {"min_cosine_alone": 1.5}},
    )
    out = tmp_path / "bundle"
    manifest = exported(text_family, tiny_checkpoint, out, "fp32", "int8-dynamic")
    (left,) = manifest.left_out
    assert left.reason.startswith("text int8-dynamic, masks on cpu: min_cosine_alone is ")
    assert roles(manifest, "int8-dynamic") == []
    assert not [name for name in on_disk(out) if "dynamic" in name]
    assert len(runtime.load(out, provider="cpu").text.fill_mask("Small [MASK]")) == 5
    assert {each.found.precision for each in verify_bundle(out, provider="cpu")} == {"fp32"}


def test_the_spelling_for_tensorrt_alone_may_be_left_out(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch, text_family
) -> None:
    searched = ladder.search

    def picky(forms, target, precision, setting):
        found = searched(forms, target, precision, setting)
        if "tensorrt" in target.name:
            raise GateError("No recipe", ["not symmetric enough"])
        return found

    monkeypatch.setattr(ladder, "search", picky)
    out = tmp_path / "bundle"
    manifest = exported(text_family, tiny_checkpoint, out, "fp32", "int8", tensorrt=True)
    assert [(left.precision, left.providers, left.reason) for left in manifest.left_out] == [
        ("int8", ("tensorrt",), "not symmetric enough")
    ]
    assert roles(manifest, "int8") == ["embedding", PACKED, FILL_MASK]
    assert not [name for name in on_disk(out) if "tensorrt" in name]
    assert "model_int8.onnx" in on_disk(out)


def test_half_precision_that_misses_is_left_out(checkpoint: Path, tmp_path: Path, monkeypatch, text_family) -> None:
    monkeypatch.setattr(floats, "HALF_GATES", {"min_cosine": 1.5})
    out = tmp_path / "bundle"
    manifest = exported(text_family, checkpoint, out, "fp32", "fp16", "bf16")
    computed = {record.precision for each in manifest.text.artifacts for record in each.fidelity}
    assert computed == {"fp32"}, "auto never takes what missed"
    left = [(each.precision, each.providers) for each in manifest.left_out]
    here = [("bf16", ("openvino",))] if PROVIDERS["openvino"].refuses("bf16") is None else []
    assert left == [*here, ("fp16", ("cuda", "tensorrt")), ("bf16", ("cuda", "tensorrt"))]
    assert all(each.tier is None and each.required == {"min_cosine": 1.5} for each in manifest.left_out)
    assert not [name for name in on_disk(out) if "16" in name]
    assert np.isfinite(runtime.load(out, provider="cpu").text.encode(TEXTS)).all()


@pytest.mark.parametrize(("cause", "recipes"), [("time", 1), ("speed", 2)])
def test_a_search_that_leads_nowhere_ends(
    checkpoint: Path, tmp_path: Path, monkeypatch, text_family, cause: str, recipes: int
) -> None:
    """At once where there is no time, and after the cheapest recipe of each form where none is faster."""
    monkeypatch.setitem(fidelity.TIERS, "99", OUT_OF_REACH)
    options = {"search_minutes": 1e-9} if cause == "time" else {}
    if cause == "speed":
        monkeypatch.setattr(rivals, "_LEAST_MILLISECONDS", 0.0)
        monkeypatch.setattr(rivals, "_CLEARLY_FASTER", 0.0)
        monkeypatch.setattr(rivals, "_in_turns", lambda *given: (2.0, 1.0))
    manifest = exported(text_family, checkpoint, tmp_path / "bundle", "fp32", "int8", **options)
    (left,) = manifest.left_out
    assert left.cause == cause
    assert len({trial.recipe for trial in left.trials}) == recipes
    assert ("not faster than fp32 on cpu (2.0 ms a batch against 1.0)" in left.reason) == (cause == "speed")


def test_an_engine_that_fails_at_int8_costs_int8_alone(
    checkpoint: Path, tmp_path: Path, monkeypatch, text_family
) -> None:
    opened = PROVIDERS["openvino"].open

    def picky(model, options):
        if options.precision == "int8":
            raise ProviderError("cannot open int8")
        return opened(model, options)

    openvino = replace(PROVIDERS["openvino"], open=picky)
    monkeypatch.setattr("export.proof.judge.PROVIDERS", {**PROVIDERS, "openvino": openvino})
    manifest = exported(text_family, checkpoint, tmp_path / "bundle", "fp32", "int8")
    (left,) = manifest.left_out
    assert left.cause == "error"
    assert "ProviderError: cannot open int8" in left.reason
    assert {each.precision for each in manifest.text.artifacts} == {"fp32"}


def test_a_fault_of_the_program_is_none_of_the_models(
    checkpoint: Path, tmp_path: Path, monkeypatch, text_family
) -> None:
    def broken(*arguments):
        raise AttributeError("no such thing")

    monkeypatch.setattr(text, "find_groups", broken)
    with pytest.raises(AttributeError):
        exported(text_family, checkpoint, tmp_path / "bundle", "fp32", "int8")
    assert not any(tmp_path.iterdir())


def test_fp32_that_differs_is_never_left_out(checkpoint: Path, tmp_path: Path, monkeypatch, text_family) -> None:
    monkeypatch.setattr("export.proof.text_parity.PACKED_GATES", {False: {"max_abs": -1.0}, True: {}})
    with pytest.raises(GateError, match="text fp32, packed on cpu: max_abs"):
        exported(text_family, checkpoint, tmp_path / "bundle", "fp32", "int8-dynamic")
    assert not any(tmp_path.iterdir())
