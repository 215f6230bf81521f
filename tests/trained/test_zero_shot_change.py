"""What an export says of zero-shot classification in lower precisions, on trained weights, beside scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from export.__main__ import main
from export.proof.zero_shot import ZeroShot, zero_shot_by_pytorch
from export.reference import hi_ml_image
from export.samples.zero_shot import ZeroShotSources, zero_shot_data
from runtime.bundle import EMBEDDING, open_bundle
from runtime.engines import PROVIDERS, Session, SessionOptions
from runtime.text import Tokenizer
from tests.trained.conftest import Trained
from tests.trained.models import biovil
from tests.trained.test_zero_shot import figures, probabilities, shown

pytestmark = pytest.mark.slow

PARTS = ("text", "image")
# Every label has 384 × 96 pairs; embeddings 1e-6 apart may swap a few.
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def zero_shot(trained: Trained) -> ZeroShot:
    sources = ZeroShotSources(trained.films, trained.labels, str(trained.prompts))
    bundle = open_bundle(trained.bundle)
    rule = bundle.image_part().preprocessing
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)
    data = zero_shot_data(sources, tokenizer, rule, bundle.manifest.joint, note=print)
    return zero_shot_by_pytorch(data, trained.text, hi_ml_image(trained.image, biovil.IMAGE))


def change(zero_shot: ZeroShot, part: str, session: Session) -> float:
    found = getattr(zero_shot, f"{part}_figures")(session)
    assert found["auroc"] == zero_shot.auroc
    return found["auroc_change"]


def graph(trained: Trained, part: str, precision: str = "fp32") -> Path:
    bundle = open_bundle(trained.bundle)
    found = [each for each in bundle.artifacts(part, None, EMBEDDING) if each.precision == precision]
    return bundle.path(found[0].file)


def opened(model: Path, precision: str = "fp32") -> Session:
    return PROVIDERS["cpu"].open(model, SessionOptions(2, precision))


def damaged(model: Path, folder: Path, bits: int) -> Path:
    """A graph whose matrices and filters have weights of so few bits, one scale a tensor."""
    loaded = onnx.load(model)
    for each in loaded.graph.initializer:
        values = numpy_helper.to_array(each)
        if values.dtype == np.float32 and values.ndim >= 2:
            scale = np.abs(values).max() / (2 ** (bits - 1) - 1)
            each.CopyFrom(numpy_helper.from_array((np.round(values / scale) * scale).astype(np.float32), each.name))
    onnx.save(loaded, folder / "damaged.onnx")
    return folder / "damaged.onnx"


class Changed:
    """A session whose embeddings are changed."""

    def __init__(self, session: Session, by: Callable[[NDArray], NDArray]) -> None:
        self._session, self._by = session, by

    def run(self, outputs: list[str], inputs: Mapping[str, NDArray]) -> list[NDArray]:
        return [self._by(each) for each in self._session.run(outputs, inputs)]


def test_the_reference_is_scored_as_by_scikit_learn(trained: Trained, zero_shot: ZeroShot) -> None:
    expected = figures(shown(trained), probabilities(trained, "biovil", trained.image_embeds))["auroc"]
    assert zero_shot.auroc == pytest.approx(expected, abs=ROUNDING)
    assert zero_shot.auroc > 0.97
    assert "480 labelled images, 4 labels" in zero_shot.in_words()
    assert f"{zero_shot.auroc:.4f}" in zero_shot.in_words()


@pytest.mark.parametrize("part", PARTS)
def test_fp32_changes_nothing_and_int8_little(trained: Trained, zero_shot: ZeroShot, part: str) -> None:
    assert abs(change(zero_shot, part, opened(graph(trained, part)))) <= ROUNDING
    assert abs(change(zero_shot, part, opened(graph(trained, part, "int8"), "int8"))) <= 0.01


@pytest.mark.parametrize(("part", "bits"), [("text", 2), ("image", 4)])
def test_a_damaged_graph_is_seen(trained: Trained, zero_shot: ZeroShot, part: str, bits: int, tmp_path: Path) -> None:
    """Negative control. The means of several prompts forgive coarser weights than an image does."""
    assert change(zero_shot, part, opened(damaged(graph(trained, part), tmp_path, bits))) < -0.1


@pytest.mark.parametrize("part", PARTS)
def test_the_change_is_that_of_one_tower(trained: Trained, zero_shot: ZeroShot, part: str) -> None:
    """By scikit-learn: the figure of embeddings turned away, beside the other tower's of the reference."""
    turned = change(zero_shot, part, Changed(opened(graph(trained, part)), lambda embeds: -embeds))
    expected = figures(shown(trained), probabilities(trained, "biovil", -trained.image_embeds))["auroc"]
    assert turned == pytest.approx(expected - zero_shot.auroc, abs=ROUNDING)
    assert turned < -0.9


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_what_are_no_embeddings_have_no_auroc(trained: Trained, zero_shot: ZeroShot, part: str, value: float) -> None:
    session = Changed(opened(graph(trained, part)), lambda embeds: np.full_like(embeds, value))
    assert np.isnan(change(zero_shot, part, session))


def test_the_manifest_has_the_figures_of_every_precision(trained: Trained, zero_shot: ZeroShot) -> None:
    bundle = open_bundle(trained.bundle)
    for part in PARTS:
        artifacts = list(bundle.artifacts(part, None, EMBEDDING))
        assert {each.precision for each in artifacts} == {"fp32", "fp16", "int8"}
        for artifact in artifacts:
            assert artifact.fidelity
            for record in artifact.fidelity:
                check(record.figures, zero_shot.auroc, artifact.precision)
                assert not {"auroc", "auroc_change"} & set(record.gates)


def test_verify_measures_the_same_by_the_graphs(
    trained: Trained, zero_shot: ZeroShot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "named.csv"
    labels.write_text(trained.labels.read_text().replace("id,", "Path,", 1))
    options = ["--zero-shot-images", trained.films, "--zero-shot-labels", labels, "--label-id-column", "Path"]
    options += ["--zero-shot-prompts", trained.prompts, "--provider", "cpu"]
    assert main(["verify", str(trained.bundle), *map(str, options), "--json"]) == 0
    verified = json.loads(capsys.readouterr().out)["artifacts"]
    assert {each["part"] for each in verified} == set(PARTS)
    for each in verified:
        found, recorded = each["found"], each["recorded"]
        check(found["figures"], zero_shot.auroc, found["precision"])
        change = recorded["figures"]["auroc_change"]
        assert found["figures"]["auroc_change"] == pytest.approx(change, abs=2 * ROUNDING)


def check(measured: Mapping[str, float], auroc: float, precision: str) -> None:
    assert measured["auroc"] == pytest.approx(auroc, abs=ROUNDING)
    assert abs(measured["auroc_change"]) <= (ROUNDING if precision == "fp32" else 0.01)
