"""int8 of a trained BERT on real notes (built-in sentences where those are absent): the figures the README quotes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import runtime
from export.build import CalibrationSources, export_bundle
from export.lower import Lowering
from tests.conftest import ROOT
from tests.minilm import MINILM, minilm_folder, write_minilm

_NOTES = Path(os.environ.get("CXR_TEST_DATA", ROOT.parent / "shared" / "data"))
NOTES = _NOTES / "reports" / "mts_dialog_section_text.jsonl"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_minilm(tmp_path_factory.mktemp("minilm") / "checkpoint")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path):
    out = checkpoint.parent / "bundle"
    manifest = export_bundle(
        MINILM,
        str(checkpoint),
        out,
        lowering=Lowering(("fp32", "bf16", "int8", "int8-dynamic")),
        calibration=CalibrationSources(text=NOTES if NOTES.is_file() else None, texts_held_out=200),
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


@pytest.mark.parametrize(("precision", "least"), [("int8", 0.997), ("int8-dynamic", 0.9994)])
def test_trained_weights_keep_their_meaning(bundle, precision, least):
    records = _artifact(bundle[1], precision).fidelity
    assert {record.provider for record in records} == {"cpu", "openvino"}
    for record in records:
        assert record.items == 200
        assert record.figures["mean_cosine"] >= least
        assert record.figures["neighbour_agreement"] >= 0.95
        assert record.figures["triplets_kept"] == 1


def test_rounding_to_nearest_without_outlier_channels_is_worse(bundle, monkeypatch):
    """The negative control: what makes the recipe good is in the recipe, not in the model."""
    from export import int8, parity, rounding, text_recipes

    monkeypatch.setattr(
        int8, "round_weights", lambda weight, scales, moments: rounding.round_to_nearest(weight, scales)
    )
    monkeypatch.setattr(text_recipes, "_OUTLIER_SHARE", 2.0)
    # So coarse a graph may also miss the gate of its packed twin (0.9979 was seen), which is not the question here.
    monkeypatch.setitem(parity.GATES, "packed int8", {})
    checkpoint = bundle[0].parent / "checkpoint"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_recipes, "_FLOAT_SHARES", (1 / 8,))
        manifest = export_bundle(
            MINILM,
            str(checkpoint),
            bundle[0].parent / "naive",
            lowering=Lowering(("int8",), enforced=False),
            calibration=CalibrationSources(text=NOTES if NOTES.is_file() else None, texts_held_out=200),
        )
    naive = _artifact(manifest, "int8").fidelity
    good = _artifact(bundle[1], "int8").fidelity
    for left, right in zip(naive, good, strict=True):
        assert 1 - left.figures["mean_cosine"] > 1.5 * (1 - right.figures["mean_cosine"])
