"""The small CLIP with trained weights in every precision: what a vision transformer and a causal text encoder lose.

Its twin with outliers computes the same function, and is what tells recipes apart.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import runtime
from export.build import CalibrationSources, export_bundle
from export.families import FAMILIES
from export.precision import Lowering
from export.proof import missed_gates
from export.proof.fidelity import HALF_GATES, TIERS
from export.proof.verify import verify_bundle
from runtime.bundle import EMBEDDING, PACKED, PATCHES, Artifact, Manifest, open_bundle
from tests.export.precision.naive import quantize_naively
from tests.trained.calibration import write_captions, write_images
from tests.trained.cases import held_out_cases
from tests.trained.conftest import COUNT
from tests.trained.figures import figures
from tests.trained.models import clip, outliers

pytestmark = pytest.mark.slow

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8-dynamic")
ENGINES = {"cpu", "openvino"}


@dataclass(frozen=True)
class Exported:
    """A checkpoint, its bundle and manifest, and the data that it was calibrated with."""

    checkpoint: Path
    bundle: Path
    manifest: Manifest
    calibration: CalibrationSources

    def artifacts(self, part: str, precision: str, role: str = EMBEDDING) -> tuple[Artifact, ...]:
        found = open_bundle(self.bundle).artifacts(part, role=role)
        return tuple(each for each in found if each.precision == precision)


Export = Callable[[Path, Path, Lowering], Exported]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("calibration")
    texts, images = write_captions(folder / "captions.txt"), write_images(folder / "images")
    calibration = CalibrationSources(text=texts, images=images)

    def make(checkpoint: Path, out: Path, lowering: Lowering) -> Exported:
        manifest = export_bundle(FAMILIES["clip"], str(checkpoint), out, lowering=lowering, calibration=calibration)
        return Exported(checkpoint, out, manifest, calibration)

    return make


@pytest.fixture(scope="module", params=clip.KINDS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, export: Export) -> Exported:
    out = tmp_path_factory.mktemp(request.param) / "bundle"
    return export(clip.checkpoint(request.param), out, Lowering(PRECISIONS, "99.9", tensorrt=True))


def test_nothing_is_left_out(exported: Exported) -> None:
    assert exported.manifest.left_out == ()


@pytest.mark.parametrize("part", ["text", "image"])
@pytest.mark.parametrize(("precision", "spellings"), [("int8", 2), ("int8-dynamic", 1)])
def test_the_cheapest_recipe_holds_the_higher_tier(
    exported: Exported, part: str, precision: str, spellings: int
) -> None:
    found = exported.artifacts(part, precision)
    assert len(found) == spellings
    for artifact in found:
        if "cpu" in artifact.providers:
            assert {record.provider for record in artifact.fidelity} == ENGINES
        assert artifact.recipe is not None
        assert len({trial.recipe for trial in artifact.recipe.trials}) == 1
        for record in artifact.fidelity:
            assert record.gates.items() <= TIERS["99.9"].items()
            assert {"mean_centred_cosine", "neighbour_regret"} <= set(record.gates)
            assert not missed_gates(record.figures, record.gates)
            assert record.figures["mean_centred_cosine"] >= 0.9998


@pytest.mark.parametrize("part", ["text", "image"])
def test_half_precision(exported: Exported, part: str) -> None:
    (artifact,) = exported.artifacts(part, "fp16")
    assert {*artifact.providers} == {"cuda", "tensorrt"}
    assert all(not missed_gates(record.figures, HALF_GATES) for record in artifact.fidelity)
    assert bool(exported.artifacts(part, "bf16")) == (part == "text")


def test_patches_are_measured_too_and_read_the_same_weights(exported: Exported) -> None:
    for precision in ("fp16", "int8", "int8-dynamic"):
        plain, twins = (exported.artifacts("image", precision, role) for role in (EMBEDDING, PATCHES))
        assert len(plain) == len(twins) > 0
        for artifact, twin in zip(plain, twins, strict=True):
            assert twin.external_data == artifact.external_data
            assert twin.providers == artifact.providers
            assert {record.provider for record in twin.fidelity} == {record.provider for record in artifact.fidelity}
            for record in twin.fidelity:
                assert record.figures["mean_patch_cosine"] >= 0.9999
                assert record.figures["map_correlation"] >= 0.999


def test_texts_side_by_side(exported: Exported) -> None:
    for precision in ("int8", "int8-dynamic"):
        packed = exported.artifacts("text", precision, PACKED)
        assert packed
        for twin in packed:
            assert min(record.figures["min_cosine"] for record in twin.parity) >= 0.999


def test_verify_agrees(exported: Exported) -> None:
    sources = exported.calibration
    verified = verify_bundle(exported.bundle, text=sources.text, images=sources.images)
    assert not [line for each in verified for line in each.missed]
    images = [each for each in verified if each.part == "image"]
    assert {(each.found.precision, each.found.provider) for each in images} >= {
        (precision, engine) for precision in ("fp32", "int8", "int8-dynamic") for engine in ENGINES
    }
    for each in images:
        assert each.patches is not None
        assert each.patches.figures["mean_patch_cosine"] >= 0.9999
        if each.patches.precision == "int8":
            assert each.patches.gates == {name: TIERS["99.9"][name] for name in each.patches.gates} != {}


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_what_it_understands_stays(exported: Exported, precision: str) -> None:
    checkpoint, cases = exported.checkpoint, held_out_cases(COUNT)
    model = clip.load_model(checkpoint)
    expected = figures(cases, clip.reference_texts(model, checkpoint), *clip.reference_images(model, checkpoint, cases))
    engine = runtime.load(exported.bundle, provider="cpu", precision=precision)
    assert engine.precision == {"text": precision, "image": precision}
    images = [np.asarray(case.image) for case in cases]
    found = figures(
        cases,
        lambda texts: engine.text.encode(texts, normalize=False),
        engine.image.encode(images),
        engine.image.encode_patches(images),
    )
    assert max(abs(found[name] - value) for name, value in expected.items()) <= 0.01, (found, expected)


@pytest.fixture
def harder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint with outliers, those of its texts four times as large: few layers forgive much."""
    checkpoint = tmp_path / "harder"
    shutil.copytree(clip.checkpoint("outliers"), checkpoint)
    model = clip.load_model(checkpoint)
    monkeypatch.setattr(outliers, "FACTOR", 4.0)
    outliers.add_outliers(model.text_model.encoder, clip._SEED)
    model.save_pretrained(checkpoint)
    return checkpoint


@pytest.mark.parametrize("naive", [False, True])
def test_negative_control_naive_int8_misses_the_tier(
    export: Export, harder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naive: bool
) -> None:
    """What makes the recipe good is in the recipe, and both parts' gates see what is not."""
    if naive:
        quantize_naively(monkeypatch)
    made = export(harder, tmp_path / "bundle", Lowering(("fp32", "int8"), enforced=False))
    for part in ("text", "image"):
        (artifact,) = made.artifacts(part, "int8")
        assert {record.provider for record in artifact.fidelity} == ENGINES
        for record in artifact.fidelity:
            missed = missed_gates(record.figures, TIERS["99" if naive else "99.9"])
            assert bool(missed) == naive, (part, record.provider, record.figures)
