"""Zero-shot classification on trained weights, by engine and command line, beside plain torch and scikit-learn."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, roc_auc_score

import runtime
from runtime.__main__ import main
from tests.trained.calibration import PROMPTS, write_labels, write_prompts
from tests.trained.conftest import Trained
from tests.trained.wordings import FINDINGS

pytestmark = pytest.mark.slow

RULES = ("biovil", "chexzero")


def probabilities(trained: Trained, rule: str, image_embeds: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rules of the papers in plain torch: (images, findings)."""
    images = torch.from_numpy(image_embeds)
    columns = []
    for prompts in PROMPTS.values():
        sides = []
        for side in prompts:
            embeds = torch.from_numpy(trained.encode_texts(list(side)))
            if rule == "chexzero":
                embeds = F.normalize(embeds, dim=1)
            sides.append(images @ F.normalize(embeds.mean(0), dim=0))
        columns.append(torch.stack(sides).softmax(0)[0])
    return torch.stack(columns, 1).numpy()


def shown(trained: Trained) -> NDArray[np.int64]:
    """Which finding each case shows: (images, findings)."""
    return np.array([[int(case.finding == finding) for finding in FINDINGS] for case in trained.cases])


def figures(truth: NDArray[np.int64], found: NDArray[np.float32]) -> dict[str, float]:
    """By scikit-learn: of all labels, and which finding it is where there is one."""
    present = truth.any(1)
    return {
        "auroc": float(np.mean([roc_auc_score(truth[:, column], found[:, column]) for column in range(4)])),
        "accuracy": float(np.mean([accuracy_score(truth[:, each], found[:, each] > 0.5) for each in range(4)])),
        "which": accuracy_score(truth[present].argmax(1), found[present].argmax(1)),
    }


@pytest.mark.parametrize("rule", RULES)
def test_the_reference_classifies(trained: Trained, rule: str) -> None:
    truth, found = shown(trained), probabilities(trained, rule, trained.image_embeds)
    reached = figures(truth, found)
    assert reached["auroc"] >= 0.97, reached
    assert reached["accuracy"] >= 0.9, reached  # 0.8 by saying no to everything
    assert reached["which"] >= 0.95, reached
    # Negative controls: prompts of another finding, then affirming and denying prompts exchanged.
    assert figures(truth, np.roll(found, 1, axis=1))["auroc"] < 0.6
    assert figures(truth, 1 - found)["auroc"] < 0.03


def test_wrong_pixels_are_noticed(trained: Trained, engines: Mapping[str, runtime.Engine]) -> None:
    """Negative control: films the wrong way round in their grey values, as MONOCHROME1 would be without inversion."""
    engine = engines["fp32"]
    wrong = engine.zero_shot_classifier(PROMPTS).probabilities(
        engine.image.encode([255 - case.image for case in trained.cases[:160]])
    )
    assert figures(shown(trained)[:160], wrong)["which"] < 0.5


def compare(
    precision: str, truth: NDArray[np.int64], found: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    """The same decisions in fp32; in int8 figures within a point."""
    reached, wanted = figures(truth, found), figures(truth, expected)
    if precision == "fp32":
        assert np.abs(found - expected).max() <= 1e-5
        assert np.array_equal(found > 0.5, expected > 0.5)
        assert np.array_equal(found.argmax(1), expected.argmax(1))
        assert reached == pytest.approx(wanted, abs=1e-6)
    else:
        assert np.abs(found - expected).max() > 1e-5, "int8 was not run"
        assert all(abs(reached[name] - wanted[name]) <= 0.01 for name in wanted), (reached, wanted)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("rule", RULES)
def test_a_classifier_answers_as_pytorch_does(
    trained: Trained,
    engines: Mapping[str, runtime.Engine],
    image_embeds: Mapping[str, NDArray[np.float32]],
    precision: str,
    rule: str,
) -> None:
    found = engines[precision].zero_shot_classifier(PROMPTS, rule).probabilities(image_embeds[precision])
    compare(precision, shown(trained), found, probabilities(trained, rule, trained.image_embeds))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_classify_answers_as_pytorch_does_and_is_evaluated_as_by_scikit_learn(
    trained: Trained,
    engines: Mapping[str, runtime.Engine],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    precision: str,
) -> None:
    truth, expected = shown(trained), probabilities(trained, "biovil", trained.image_embeds)
    out = tmp_path / "out.csv"
    prompts, labels = write_prompts(tmp_path / "prompts.json"), write_labels(tmp_path / "labels.csv", trained.cases)
    arguments = [str(trained.films), "--prompts", str(prompts), "--labels", str(labels), "--out", str(out), "--json"]
    arguments += ["--provider", "cpu", "--precision", precision]
    assert main(["classify", str(trained.bundle), *arguments]) == 0
    evaluation = json.loads(capsys.readouterr().out)["evaluation"]
    with out.open(newline="") as stream:
        header, *lines = csv.reader(stream)
    assert header == ["id", *FINDINGS]
    found = np.array([line[1:] for line in lines], np.float32)
    compare(precision, truth, found, expected)
    reached = figures(truth, found)
    assert evaluation["mean_auroc"] == pytest.approx(reached["auroc"], abs=1e-9)
    assert evaluation["mean_accuracy"] == pytest.approx(reached["accuracy"], abs=1e-9)
    answers = engines[precision].classify([case.image for case in trained.cases[:32]], PROMPTS)
    rows = np.array([[answer[finding] for finding in FINDINGS] for answer in answers])
    # Batches of int8 round alike, each image by itself.
    assert np.abs(rows - found[:32]).max() <= 1e-5
