"""`python -m export triton`: what is written, what is refused, and that nothing is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from export.__main__ import main
from runtime.bundle import open_bundle
from tests.conftest import ROOT, edit_json
from tests.runtime.handmade import artifact, fp32, record, write_bundle
from tests.runtime.trees import contents


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", [fp32()], [fp32()])


def failed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["triton", *map(str, arguments)]) == 1
    return capsys.readouterr().err


def test_a_repository_holds_what_it_needs(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "repo"
    assert main(["triton", str(bundle), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "cxr_text (python): Texts to embeddings" in said
    assert f"tritonserver --model-repository={out / 'models'}" in said
    assert sorted(each.name for each in out.iterdir()) == ["README.md", "bundle", "models", "repository.json"]
    assert contents(out / "bundle") == contents(bundle)
    assert all((each.stat().st_mode & 0o044) == 0o044 for each in (out / "bundle").rglob("*") if each.is_file())
    readme = (out / "README.md").read_text(encoding="utf-8")
    for each in (
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "cxr_similarity",
        "[cpu,openvino,dicom]",
    ):
        assert each in readme


def test_json_says_what_was_written(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "repo"
    assert main(["triton", str(bundle), "--out", str(out), "--backend", "onnxruntime", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    graph = next(each for each in found["models"] if each["name"] == "cxr_text_graph")
    assert (graph["precision"], graph["inputs"], graph["file"]) == (
        "fp32",
        ["input_ids", "attention_mask"],
        "text/onnx/model_fp32.onnx",
    )
    kept = json.loads((out / "repository.json").read_text(encoding="utf-8"))
    assert kept["models"] == found["models"]
    # One file under two names.
    assert (out / "models/cxr_text_graph/1/model.onnx").samefile(out / "bundle/text/onnx/model_fp32.onnx")


def test_a_bundle_elsewhere_is_named_not_copied(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "repo"
    arguments = ["--out", str(out), "--bundle-at", "/bundle", "--backend", "openvino"]
    assert main(["triton", str(bundle), *arguments]) == 0
    assert not (out / "bundle").exists()
    assert 'string_value: "/bundle"' in (out / "models/cxr_tokens/config.pbtxt").read_text(encoding="utf-8")
    graph = out / "models/cxr_text_graph/1/model.onnx"
    assert graph.read_bytes() == (bundle / "text/onnx/model_fp32.onnx").read_bytes()
    assert not graph.samefile(bundle / "text/onnx/model_fp32.onnx")
    assert "-v BUNDLE:/bundle:ro" in (out / "README.md").read_text(encoding="utf-8")


def test_nothing_is_replaced_unasked(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "repo"
    assert main(["triton", str(bundle), "--out", str(out)]) == 0
    before = contents(out)
    assert "already exists. Choose another --out, or replace the model repository" in failed(
        capsys, bundle, "--out", out
    )
    assert contents(out) == before
    assert main(["triton", str(bundle), "--out", str(out), "--force", "--models", "text"]) == 0
    assert [each.name for each in (out / "models").iterdir()] == ["cxr_text"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "a").write_text("mine")
    assert "is not a model repository (it has no repository.json)" in failed(capsys, bundle, "--out", other, "--force")
    inside = failed(capsys, bundle, "--out", bundle / "repo")
    assert "InputError" in inside
    assert "InputError" in failed(capsys, bundle, "--out", bundle, "--force")


def test_a_changed_file_is_found(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = bundle / "text/onnx/model_fp32.onnx"
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(data)
    for options in ((), ("--bundle-at", "/bundle", "--backend", "onnxruntime")):
        error = failed(capsys, bundle, "--out", tmp_path / "repo", *options)
        assert "model_fp32.onnx was changed after the export" in error
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bundle"]


def test_what_the_bundle_lacks_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write_bundle(tmp_path / "texts", [fp32()])
    error = failed(capsys, texts, "--out", tmp_path / "repo", "--models", "image")
    assert "has not what the model 'image' needs; of this bundle there can be: text." in error
    assert "the model 'fill_mask' needs" in failed(capsys, texts, "--out", tmp_path / "repo", "--models", "fill_mask")
    assert "BundleError: There is no bundle" in failed(capsys, tmp_path / "none", "--out", tmp_path / "repo")
    assert "no text artifact in precision 'int8'" in failed(
        capsys, texts, "--out", tmp_path / "repo", "--backend", "onnxruntime", "--precision", "int8"
    )
    assert not (tmp_path / "repo").exists()


def test_a_precision_that_the_backends_cannot_compute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dynamic = artifact("int8-dynamic", ["cpu", "openvino"], record("openvino", 0.9999, 1.0, "int8-dynamic"))
    texts = write_bundle(tmp_path / "texts", [fp32(), dynamic])
    out, backend = tmp_path / "repo", ("--backend", "openvino")
    assert "cannot be told to compute in it" in failed(
        capsys, texts, "--out", out, *backend, "--precision", "int8-dynamic"
    )
    assert main(["triton", str(texts), "--out", str(out), *backend]) == 0
    assert "cxr_text_graph (openvino, fp32)" in capsys.readouterr().out


def test_graphs_of_older_bundles_are_refused(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from export.triton.models import plan_models
    from export.triton.options import Asked
    from runtime.errors import BundleError

    opened = open_bundle(bundle)
    older = replace(opened, manifest=replace(opened.manifest, schema_version=3))
    with pytest.raises(BundleError, match="graphs have other names"):
        plan_models(older, Asked(backend="onnxruntime"))
    assert plan_models(older, Asked())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "openvino", "--device", "gpu"], "openvino backend runs on processors"),
        (["--instances", "2"], "--instances: name the threads of each"),
        (["--provider", "cpu", "--device", "gpu"], "--provider and --device gpu exclude"),
        (["--name", "../x"], "letters, digits"),
        (["--models", "text,voice"], "voice; there are: text, fill_mask"),
        (["--models", ","], "no model; there are"),
        (["--bundle-at", "bundle"], "an absolute path is expected"),
        (["--max-queue", "0"], "at least 1 is expected"),
        (["--max-wait", "0"], "a number above 0 is expected"),
        (["--backend", "tensorrt"], "invalid choice"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["triton", "b", "--out", "o", *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_neither_torch_nor_onnx_is_needed(bundle: Path, tmp_path: Path) -> None:
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "onnx", "tritonclient", "google"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
from export.__main__ import main
for backend in ("python", "openvino"):
    assert main(["triton", {str(bundle)!r}, "--out", {str(tmp_path)!r} + "/" + backend, "--backend", backend]) == 0
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_random_weights_are_said(bundle: Path, tmp_path: Path) -> None:
    edit_json(bundle / "manifest.json", lambda data: data["source"].update(kind="random", name="random", seed=1))
    assert main(["triton", str(bundle), "--out", str(tmp_path / "repo")]) == 0
    assert "Random weights: its results mean nothing" in (tmp_path / "repo/README.md").read_text(encoding="utf-8")
