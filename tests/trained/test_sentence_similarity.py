"""What sentences say of each other, on trained weights: entailment or contradiction, and the triplet test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve

import bench.__main__
import runtime
from tests.oracle import reference_text_engine
from tests.trained.conftest import Trained
from tests.trained.sentences import sentence_pairs, triplets

pytestmark = pytest.mark.slow

PAIRS, DEV = sentence_pairs(6), sentence_pairs(6, seed=1)
TRIPLETS = triplets(6)
TOLERANCE = {"fp32": 1e-9, "int8": 0.01}


def without_neutral(pairs: Sequence[tuple[str, str, str]]) -> tuple[list[str], list[str], NDArray[np.bool_]]:
    """Premises, hypotheses, and whether one follows from the other (else it contradicts it)."""
    premises, hypotheses, labels = zip(*(pair for pair in pairs if pair[2] != "neutral"), strict=True)
    return list(premises), list(hypotheses), np.array(labels) == "entailment"


def cosines(trained: Trained, a: list[str], b: list[str]) -> NDArray[np.float64]:
    """By the reference package, text by text the same."""
    return np.asarray(reference_text_engine(trained.checkpoint).get_pairwise_similarities(a, b), dtype=np.float64)


@pytest.fixture(scope="module")
def expected(trained: Trained) -> dict[str, float]:
    """ROC-AUC, and accuracy with the threshold of the best accuracy on other pairs, by scikit-learn."""
    *dev, dev_truth = without_neutral(DEV)
    *texts, truth = without_neutral(PAIRS)
    dev_scores, found = cosines(trained, *dev), cosines(trained, *texts)
    false, true, thresholds = roc_curve(dev_truth, dev_scores, drop_intermediate=False)
    right = np.round(true * dev_truth.sum() + (1 - false) * (~dev_truth).sum())
    threshold = thresholds[right == right.max()].min()
    below = dev_scores[dev_scores < threshold].max()
    return {
        "roc_auc": roc_auc_score(truth, found),
        "accuracy": accuracy_score(truth, found >= (threshold + below) / 2),
        "threshold": (threshold + below) / 2,
    }


def measure(
    what: str, trained: Trained, precision: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    arguments = [*arguments, "--provider", "cpu", "--precision", precision, "--json"]
    assert bench.__main__.main(["quality", what, str(trained.bundle), *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    return next(iter(report["results"].values()))


def write(file: Path, pairs: Sequence[tuple[str, ...]], names: Sequence[str]) -> str:
    file.write_text("".join(json.dumps(dict(zip(names, pair, strict=True))) + "\n" for pair in pairs))
    return str(file)


def test_the_reference_tells_entailment_from_contradiction(trained: Trained, expected: dict[str, float]) -> None:
    assert expected["roc_auc"] >= 0.85, expected
    assert expected["accuracy"] >= 0.75, expected  # 0.6 by calling everything a contradiction
    # Negative control: hypotheses of other pairs.
    premises, hypotheses, truth = without_neutral(PAIRS)
    shuffled = [hypotheses[index] for index in np.random.default_rng(0).permutation(len(hypotheses))]
    assert abs(roc_auc_score(truth, cosines(trained, premises, shuffled)) - 0.5) < 0.1


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_radnli_figures_are_those_of_the_reference(
    trained: Trained, expected: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    names = ("sentence1", "sentence2", "gold_label")
    data = write(tmp_path / "data.jsonl", PAIRS, names)
    arguments = ["--data", data, "--dev", write(tmp_path / "dev.jsonl", DEV, names)]
    found = measure("radnli", trained, precision, arguments, capsys)
    if precision == "fp32":
        assert found["threshold"] == pytest.approx(expected["threshold"], abs=1e-5)
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=TOLERANCE[precision])
    assert found["roc_auc"] == pytest.approx(expected["roc_auc"], abs=max(TOLERANCE[precision], 1e-4))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_triplets_are_ordered_as_by_the_reference(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    reference, synonym, contradiction = map(list, zip(*TRIPLETS, strict=True))
    right = cosines(trained, reference, synonym) > cosines(trained, reference, contradiction)
    assert right.mean() >= 0.97
    data = write(tmp_path / "triplets.jsonl", TRIPLETS, ("reference", "synonym", "contradiction"))
    found = measure("triplets", trained, precision, ["--data", data], capsys)
    assert found["accuracy"] == pytest.approx(right.mean(), abs=TOLERANCE[precision])
    if precision == "fp32":
        assert found["wrong_lines"] == [line for line, is_right in enumerate(right, 1) if not is_right]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("int8", 0.1)])
def test_similarity_is_that_of_the_reference(
    trained: Trained, engines: Mapping[str, runtime.Engine], precision: str, tolerance: float
) -> None:
    premises, hypotheses, _ = without_neutral(PAIRS)
    found = engines[precision].text.similarity(premises, hypotheses)
    assert np.abs(found - cosines(trained, premises, hypotheses)).max() <= tolerance
