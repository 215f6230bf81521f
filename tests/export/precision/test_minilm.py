"""int8 of a trained BERT on real notes (built-in sentences where those are absent): the figures the README quotes."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import runtime
from export.build import CalibrationSources, export_bundle
from export.families import FAMILIES
from export.graphs.packing import plain_spec
from export.precision import Lowering
from export.precision.inputs import fixed_smoothing
from export.precision.misses import Misses
from export.progress import Steps
from export.proof import working_engines
from export.proof.fidelity import embed_texts
from export.proof.judge import text_judge
from export.samples import TRIPLETS, text_data
from runtime.engines import PROVIDERS, SessionOptions
from runtime.engines.providers import default_threads
from runtime.text import Tokenizer
from tests.conftest import ROOT
from tests.minilm import minilm_folder

pytestmark = pytest.mark.slow

_NOTES = Path(os.environ.get("CXR_TEST_DATA", ROOT.parent / "shared" / "data"))
NOTES = _NOTES / "reports" / "mts_dialog_section_text.jsonl"
SOURCES = CalibrationSources(text=NOTES if NOTES.is_file() else None, texts_held_out=200)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("minilm") / "bundle"
    manifest = export_bundle(
        FAMILIES["bert"],
        str(minilm_folder()),
        out,
        lowering=Lowering(("fp32", "bf16", "int8", "int8-dynamic")),
        calibration=SOURCES,
    )
    return out, manifest


def _artifact(manifest, precision: str):
    return next(found for found in manifest.text.artifacts if found.precision == precision)


def test_the_export_is_the_published_model(bundle):
    """sentence-transformers, with the package's own pipeline, as the independent reference."""
    from sentence_transformers import SentenceTransformer

    texts = ["Small left pleural effusion", "No pneumothorax", "The heart is enlarged, unchanged from prior"]
    expected = SentenceTransformer(str(minilm_folder()), device="cpu").encode(texts, normalize_embeddings=True)
    found = runtime.load(bundle[0], provider="cpu", precision="fp32").text.encode(texts)
    assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize(("precision", "least"), [("int8", 0.9985), ("int8-dynamic", 0.9994)])
def test_trained_weights_keep_their_meaning(bundle, precision, least):
    records = _artifact(bundle[1], precision).fidelity
    assert {record.provider for record in records} == {"cpu", "openvino"}
    for record in records:
        assert record.items == 200
        assert record.figures["mean_cosine"] >= least
        assert record.figures["neighbour_agreement"] >= 0.95
        assert record.figures["triplets_kept"] == 1


def _smoothquant(weight, statistics, copies):
    """SmoothQuant (alpha 0.5, as published) in place of all that `smoothed_inputs` does."""
    found = fixed_smoothing(weight, statistics, 0.5)
    largest = np.maximum(np.abs(statistics.lowest), np.abs(statistics.highest)) * found.multiplier
    return replace(found, step=float(largest.max()) / 127)


def test_rounding_to_nearest_with_smoothquant_alone_is_worse(bundle, monkeypatch, tmp_path):
    """The negative control: what makes the recipe good is in the recipe, not in the model."""
    from export.precision import int8, rounding, text_recipes

    monkeypatch.setattr(
        int8, "round_weights", lambda weight, scales, moments: rounding.round_to_nearest(weight, scales)
    )
    monkeypatch.setattr(int8, "smoothed_inputs", _smoothquant)
    out, manifest = bundle
    # Of the fp32 graph alone, which is known to be right; nothing else of an export is the question here.
    source = out / "text/onnx/model.onnx"
    folder = tmp_path / "text/onnx"
    folder.mkdir(parents=True)
    for name in ("model.onnx", "model.onnx_data"):
        shutil.copyfile(source.with_name(name), folder / name)
    tokenizer = Tokenizer(out / "text", manifest.text.tokenization)
    data = text_data(SOURCES.text, tokenizer, held_out=SOURCES.texts_held_out, note=print)
    triplets = tokenizer.encode([sentence for triplet in TRIPLETS for sentence in triplet])
    session = PROVIDERS["cpu"].open(source, SessionOptions(threads=default_threads(), precision="fp32"))
    expected = embed_texts(session, [*data.held_out, *triplets], tokenizer.pad_token_id)
    held_out = len(data.held_out)
    judge = text_judge(
        expected[:held_out],
        expected[held_out:],
        list(data.held_out),
        tokenizer,
        1 + max(max(row) for row in data.held_out),
        data.record.held_out_sha256,
        working_engines(source),
    )
    size, longest = manifest.text.embedding_size, manifest.text.tokenization.max_length
    lowering, steps = Lowering(("int8",), enforced=False), Steps()
    (naive,) = text_recipes.int8_artifacts(
        [_artifact(manifest, "fp32")],
        tmp_path,
        plain_spec(size, longest),
        judge,
        data,
        tokenizer,
        lowering,
        Misses(tmp_path, lowering, steps),
        steps,
    )
    assert data.record.held_out_sha256 == manifest.calibration["text"].held_out_sha256
    good = _artifact(manifest, "int8").fidelity
    for left, right in zip(naive.fidelity, good, strict=True):
        assert 1 - left.figures["mean_cosine"] > 5 * (1 - right.figures["mean_cosine"])
