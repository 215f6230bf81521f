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
from export.precision import Lowering, int8
from export.precision.misses import Misses
from export.precision.recipes.text import int8_artifacts
from export.progress import Steps
from export.proof import missed_gates, working_engines
from export.proof.fidelity import TIERS, embed_texts
from export.proof.judge import text_cases, text_judge
from export.samples import text_data
from runtime.engines import PROVIDERS, SessionOptions
from runtime.engines.providers import default_threads
from runtime.text import Tokenizer
from tests.conftest import ROOT
from tests.export.precision.naive import quantize_naively
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
        lowering=Lowering(("fp32", "bf16", "int8", "int8-dynamic"), "99.9"),
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
    artifact = _artifact(bundle[1], precision)
    assert len({trial.recipe for trial in artifact.recipe.trials}) == 1, "the cheapest recipe holds tier 99.9"
    assert {record.provider for record in artifact.fidelity} == {"cpu", "openvino"}
    for record in artifact.fidelity:
        assert record.items == 200
        assert record.gates == TIERS["99.9"]
        assert not missed_gates(record.figures, record.gates)
        assert record.figures["mean_cosine"] >= least
        assert record.figures["neighbour_agreement"] >= 0.95
        assert record.figures["neighbours_kept"] >= record.figures["neighbour_agreement"]


def _clipped(monkeypatch) -> None:
    """The first of 24 products has a quarter of its range; what lies beyond is cut off."""
    smoothed, seen = int8.smoothed_inputs, []

    def clipped(weight, statistics, copies):
        found = smoothed(weight, statistics, copies)
        seen.append(found)
        return replace(found, step=found.step / 4) if len(seen) == 1 else found

    monkeypatch.setattr(int8, "smoothed_inputs", clipped)


@pytest.mark.parametrize("damage", [quantize_naively, _clipped])
def test_recipes_that_damage_retrieval_miss_the_tier(bundle, monkeypatch, tmp_path, damage):
    """The negative controls: what makes the recipe good is in the recipe, and the gates see what is not."""
    damage(monkeypatch)
    out, manifest = bundle
    # Of the fp32 graph alone, which is known to be right; nothing else of an export is the question here.
    source = out / "text/onnx/model.onnx"
    folder = tmp_path / "text/onnx"
    folder.mkdir(parents=True)
    for name in ("model.onnx", "model.onnx_data"):
        shutil.copyfile(source.with_name(name), folder / name)
    tokenizer = Tokenizer(out / "text", manifest.text.tokenization)
    data = text_data(SOURCES.text, tokenizer, held_out=SOURCES.texts_held_out, note=print)
    session = PROVIDERS["cpu"].open(source, SessionOptions(threads=default_threads(), precision="fp32"))
    cases = text_cases(data, tokenizer)
    judge = text_judge(
        embed_texts(session, cases.rows, tokenizer.pad_token_id),
        cases,
        tokenizer,
        1 + max(max(row) for row in data.held_out),
        data.record.held_out_sha256,
        working_engines(source),
    )
    size, longest = manifest.text.embedding_size, manifest.text.tokenization.max_length
    lowering, steps = Lowering(("int8",), enforced=False), Steps()
    (damaged,) = int8_artifacts(
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
    for record in damaged.fidelity:
        # Of 200 notes near-repeats change places by more than what is lost: the change of their MRR proves nothing.
        missed = [line.split()[0] for line in missed_gates(record.figures, TIERS["99"])]
        assert "neighbour_regret" in missed
