"""Bundles that are missing, unfinished, changed, too new or too small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import runtime
from runtime.bundle import MANIFEST_NAME, Manifest, open_bundle
from runtime.errors import BundleError
from tests.conftest import System, edit_json
from tests.runtime.older import as_schema_3


def test_a_good_bundle_opens_and_its_manifest_survives_a_round_trip(tiny: System) -> None:
    bundle = open_bundle(tiny.bundle)
    bundle.verify(bundle.manifest.files)
    assert Manifest.from_json(bundle.manifest.to_json(), Path("again")) == bundle.manifest
    assert bundle.parts() == ("text", "image")
    on_disk = {path.relative_to(tiny.bundle).as_posix() for path in tiny.bundle.rglob("*") if path.is_file()}
    assert on_disk == {*bundle.manifest.files, MANIFEST_NAME}


def test_no_folder_and_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"no bundle at .*absent: it does not exist.*python -m export biovil --checkpoint"
    ):
        runtime.load(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"not a bundle: it has no manifest.json"):
        runtime.load(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["text/onnx/model_packed.onnx", "text/onnx/model.onnx_data", "text/tokenizer.json", "image/onnx/model.onnx_data"],
)
def test_one_changed_byte_is_noticed(tiny_copy: Path, name: str) -> None:
    file = tiny_copy / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"was changed after the export: its sha256 is .*the manifest says"):
        runtime.load(tiny_copy, provider="cpu")


def test_missing_and_cut_files_are_listed_together(tiny_copy: Path) -> None:
    (tiny_copy / "text/tokenizer.json").unlink()
    (tiny_copy / "image/onnx/model.onnx").write_bytes(b"short")
    with pytest.raises(BundleError) as caught:
        runtime.load(tiny_copy)
    assert "text/tokenizer.json: missing" in str(caught.value)
    assert "image/onnx/model.onnx: 5 bytes, expected" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(schema_version=5), r"schema version 5; this runtime reads 2 to 4.*pip install -U"),
        (
            lambda data: data.update(schema_version=1),
            r"schema version 1; this runtime reads 2 to 4.*Export",
        ),
        (lambda data: data.pop("schema_version"), "no schema_version"),
        (lambda data: data.update(extra=1), r"unknown keys \['extra'\]"),
        (lambda data: data.pop("source"), r"lacks \['source'\]"),
        (
            lambda data: data["text"]["tokenization"].update(max_length="512"),
            r"tokenization.max_length should be .*int.*'512'",
        ),
        (
            lambda data: data["text"]["tokenization"].update(tokenizer="unigram", cleaning="lower"),
            r"text.tokenizer is 'unigram'; one of 'wordpiece', 'bpe'[\s\S]*text.cleaning is 'lower'.*'ftfy'",
        ),
        (lambda data: data["image"]["preprocessing"].update(crop=True), r"manifest.image.preprocessing.crop should be"),
        (lambda data: data["text"].update(artifacts={}), r"manifest.text.artifacts should be"),
        (lambda data: data["text"]["artifacts"][0].update(providers="cpu"), r"artifacts\[0\].providers should be"),
        (lambda data: data["text"].update(artifacts=[3]), r"artifacts\[0\] should be an object"),
        (lambda data: data["files"].update({"../x": {"sha256": "", "bytes": 0}}), r"../x: leads out of the bundle"),
    ],
)
def test_a_manifest_that_is_not_as_expected(tiny_copy: Path, change, message: str) -> None:
    edit_json(tiny_copy / MANIFEST_NAME, change)
    with pytest.raises(BundleError, match=message):
        runtime.load(tiny_copy)


def test_a_manifest_that_is_not_json(tiny_copy: Path) -> None:
    (tiny_copy / MANIFEST_NAME).write_text("{")
    with pytest.raises(BundleError, match="not valid JSON"):
        runtime.load(tiny_copy)
    (tiny_copy / MANIFEST_NAME).write_text("[]")
    with pytest.raises(BundleError, match="no schema_version"):
        runtime.load(tiny_copy)


def test_a_file_that_the_manifest_does_not_list_is_not_trusted(tiny_copy: Path) -> None:
    edit_json(tiny_copy / MANIFEST_NAME, lambda data: data["files"].pop("text/onnx/model_packed.onnx"))
    with pytest.raises(BundleError, match="not listed"):
        runtime.load(tiny_copy, provider="cpu")


def test_a_part_that_the_bundle_lacks(tiny_copy: Path) -> None:
    shutil.rmtree(tiny_copy / "image")

    def drop(data: dict) -> None:
        data["image"] = None
        data["files"] = {name: entry for name, entry in data["files"].items() if not name.startswith("image/")}

    edit_json(tiny_copy / MANIFEST_NAME, drop)
    engine = runtime.load(tiny_copy, provider="cpu")
    assert engine.text.encode("fine").shape == (1, 128)
    with pytest.raises(BundleError, match=r"no image part .*with: text"):
        engine.image.encode("chest.png")
    with pytest.raises(BundleError, match="no image part"):
        runtime.load(tiny_copy, parts=["image"])


def test_a_precision_that_the_bundle_lacks(tiny: System) -> None:
    with pytest.raises(
        BundleError, match=r"no text artifact in precision 'int8'; it has: fp32 \(cpu, .*--precision fp32,int8 --out"
    ):
        runtime.load(tiny.bundle, precision="int8")


def test_the_manifest_is_plain_json(tiny: System) -> None:
    data = json.loads((tiny.bundle / MANIFEST_NAME).read_text(encoding="utf-8"))
    artifact = data["text"]["artifacts"][0]
    assert artifact["inputs"][0] == {"name": "input_ids", "dtype": "int64", "axes": ["batch", "sequence"]}
    assert artifact["opset"] == 18
    assert data["source"]["kind"] == "random"
    assert data["source"]["seed"] == 7


def test_schema_3_says_the_same_in_fewer_words(tiny_copy: Path) -> None:
    """What the code took for granted then is data now."""
    present = open_bundle(tiny_copy).manifest
    edit_json(tiny_copy / MANIFEST_NAME, as_schema_3)
    older = open_bundle(tiny_copy).manifest
    assert older.schema_version == 3
    assert (older.text, older.image, older.joint) == (present.text, present.image, present.joint)

    edit_json(tiny_copy / MANIFEST_NAME, lambda data: data["text"].update(embedding="sum"))
    with pytest.raises(BundleError, match=r"embedding is 'sum'; one of projected \[CLS\]"):
        open_bundle(tiny_copy)
