"""Scores other than pairs, the bundle's scale and bias, and prompts of labels alone; by torch and by hand."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import runtime
from export.samples import chest_phantom
from runtime.bundle import parts
from runtime.errors import BundleError, InputError
from runtime.tasks.given_prompts import resolve
from runtime.tasks.prompts import LabelPrompts, check_prompts, read_prompts
from runtime.tasks.zero_shot import SCORES, ZeroShotClassifier, build_classifier
from tests.conftest import edit_json, run_module
from tests.runtime.handmade import fp32, write_bundle

LABELS = ["edema", "opacity", "left effusion"]
TEMPLATES = ["small {}", "{} left", "{}"]
SCALE, BIAS = 84.9, -7.5
PAIRS = {"a": (["edema"], ["no edema"]), "b": (["left opacity", "opacity"], ["clear lungs"])}


def bundle_of(folder: Path, **joint: object) -> Path:
    written = write_bundle(folder / "bundle", [fp32()], [fp32()])
    edit_json(written / "manifest.json", lambda data: data["joint"].update(joint))
    return written


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> runtime.Engine:
    joint = {"logit_scale": SCALE, "logit_bias": BIAS, "score": "softmax", "templates": TEMPLATES}
    return runtime.load(bundle_of(tmp_path_factory.mktemp("softmax"), **joint), provider="cpu")


@pytest.fixture(scope="module")
def films() -> list[np.ndarray]:
    return [chest_phantom(150, 180, seed) for seed in range(4)]


def class_embeds(engine: runtime.Engine, prompts: list[list[str]]) -> torch.Tensor:
    """CLIP's ensembling: each prompt normalized, the mean, normalized again."""
    found = []
    for each in prompts:
        rows = torch.nn.functional.normalize(torch.tensor(engine.text.encode(each, normalize=False)), dim=-1)
        found.append(torch.nn.functional.normalize(rows.mean(0), dim=0))
    return torch.stack(found)


def test_softmax_over_labels_is_that_of_open_clip(engine: runtime.Engine, films: list[np.ndarray]) -> None:
    images = torch.tensor(engine.image.encode(films))
    prompts = [[f"small {label}", f"{label} left", label] for label in LABELS]
    logits = SCALE * images @ class_embeds(engine, prompts).T
    expected = logits.softmax(-1).numpy()
    found = engine.classify(films, LABELS, "chexzero")
    assert [list(each) for each in found] == [LABELS] * 4
    assert np.array([list(each.values()) for each in found]) == pytest.approx(expected, abs=1e-5)
    assert expected.std() > 0.05, "else the next lines would prove nothing"
    written = engine.classify(films, dict(zip(LABELS, prompts, strict=True)), "chexzero", score="softmax")
    assert written == found, "the bundle's score, and prompts written whole"
    assert engine.classify(films, LABELS) == found, "CLIP's rule is that of bundles with its score"
    assert engine.classify(films, LABELS, "biovil") != found, "the rule counts"


def test_sigmoid_takes_each_label_on_its_own(engine: runtime.Engine, films: list[np.ndarray]) -> None:
    images = torch.tensor(engine.image.encode(films))
    prompts = {"Edema": ["edema"], "Opacity": ["small opacity", "opacity"]}
    logits = SCALE * images @ class_embeds(engine, list(prompts.values())).T + BIAS
    found = engine.classify(films, prompts, "chexzero", "sigmoid")
    assert np.array([list(each.values()) for each in found]) == pytest.approx(logits.sigmoid().numpy(), abs=1e-5)
    alone = engine.classify(films, {"Edema": ["edema"]}, score="sigmoid")
    assert [each["Edema"] for each in alone] == pytest.approx([each["Edema"] for each in found], abs=1e-6)


def test_pairs_are_scaled(engine: runtime.Engine, films: list[np.ndarray]) -> None:
    images = torch.tensor(engine.image.encode(films))
    found = engine.classify(films, PAIRS, "chexzero", score="pairs")
    for column, sides in PAIRS.items():
        logits = SCALE * images @ class_embeds(engine, list(sides)).T
        assert [each[column] for each in found] == pytest.approx(logits.softmax(-1)[:, 0].numpy(), abs=1e-5)


def test_biovil_answers_as_before_to_the_bit(tmp_path: Path, films: list[np.ndarray]) -> None:
    """Its scale is 1 and its bias 0: what was computed until there were other scores."""
    engine = runtime.load(bundle_of(tmp_path), provider="cpu")
    images = engine.image.encode(films)
    classifier = engine.zero_shot_classifier(PAIRS)
    assert (classifier.score, classifier.logit_scale, classifier.logit_bias) == ("pairs", 1.0, 0.0)
    scores = classifier.scores(images)
    expected = np.asarray(1 / (1 + np.exp(scores[..., 1] - scores[..., 0])), dtype=np.float32)
    assert classifier.probabilities(images).tobytes() == expected.tobytes()
    rows = np.random.default_rng(0).normal(size=(100_000, 2, 2)).astype(np.float32)
    plain = np.asarray(1 / (1 + np.exp(rows[..., 1] - rows[..., 0])), dtype=np.float32)
    assert SCORES["pairs"].probabilities(rows, np.float32(1), np.float32(0)).tobytes() == plain.tobytes()


@pytest.mark.filterwarnings("error")
def test_extreme_scales_overflow_into_nothing() -> None:
    embeds = np.array([[[1.0, 0.0]], [[-1.0, 0.0]]], np.float32)
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    for score in ("softmax", "sigmoid"):
        found = ZeroShotClassifier(("a", "b"), "biovil", embeds.copy(), score, 1000.0).probabilities(rows)
        assert found.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert ZeroShotClassifier(("a", "b"), "biovil", embeds.copy(), "softmax").probabilities(rows[:0]).shape == (0, 2)


def test_a_classifier_is_pickled_with_its_score(engine: runtime.Engine, films: list[np.ndarray]) -> None:
    classifier = engine.zero_shot_classifier(LABELS)
    again = pickle.loads(pickle.dumps(classifier))
    images = engine.image.encode(films)
    assert np.array_equal(again.probabilities(images), classifier.probabilities(images))
    assert (again.score, again.logit_scale, again.logit_bias) == ("softmax", SCALE, BIAS)
    assert engine.zero_shot_classifier(list(LABELS)) is classifier
    assert engine.zero_shot_classifier(LABELS, score="sigmoid") is not classifier


def test_labels_become_prompts_by_templates() -> None:
    found = check_prompts(["Edema", "a {b}"], ("a film of {}.", "{}"))
    assert found == (
        LabelPrompts("Edema", ("a film of Edema.", "Edema"), ()),
        LabelPrompts("a {b}", ("a film of a {b}.", "a {b}"), ()),
    )
    assert check_prompts(("Edema",), ()) == (LabelPrompts("Edema", ("Edema",), ()),)
    given = {"Edema": ["wet lungs"], "b": {"positive": ("c",)}}
    assert check_prompts(given, ("ignored {}",)) == (
        LabelPrompts("Edema", ("wet lungs",), ()),
        LabelPrompts("b", ("c",), ()),
    )


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (["a", 3], "label 3: a int came where a name"),
        (["a", "b", "a"], "label 'a': is given twice. Leave one out"),
        (["a", "A "], "label 'A ': is given twice: 'a' is the same but for case and spaces"),
        (["a", " "], "label ' ': is blank"),
        (["a", "?!"], r"label .\?!.: positive prompt 1 is without a word"),
        ([], r"There are no labels; .* labels, such as \[\"Edema\""),
        ({}, "There are no labels"),
        (3, "A int came where prompts are expected: labels, such as"),
        ({"a": "edema"}, "its positive prompts are a str"),
        ({"a": []}, "label 'a': has no prompts; at least one"),
        ({"a": {}}, "label 'a': has no prompts; at least one"),
        ({"a": (["x"], ["y"])}, "label 'a': has more than prompts that affirm it; .* 'pairs' alone"),
        ({"a": {"positive": ["x"], "negative": ["y"]}}, "has more than prompts that affirm it"),
        ({"a": ["x", ""]}, "positive prompt 2 is without a word"),
    ],
)
def test_prompts_of_labels_that_are_refused(prompts: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_prompts(prompts, ())  # type: ignore[arg-type]


def test_what_does_not_fit_the_score_is_refused(engine: runtime.Engine) -> None:
    with pytest.raises(InputError, match="There is no score 'cosine'; there are: pairs, softmax, sigmoid"):
        engine.zero_shot_classifier(LABELS, score="cosine")
    with pytest.raises(InputError, match=r"'chexpert' affirm and deny each label.*Choose score 'pairs', or"):
        engine.zero_shot_classifier("chexpert")
    with pytest.raises(InputError, match=r"compares labels with each other: at least 2 are expected, there is 1."):
        engine.zero_shot_classifier(["edema"])
    with pytest.raises(InputError, match=r"A list came where prompts are expected: \{label: \(positive"):
        engine.zero_shot_classifier(LABELS, score="pairs")
    with pytest.raises(InputError, match=r"has no negative prompts; both sides need one.*'softmax' and 'sigmoid' take"):
        engine.zero_shot_classifier({"a": (["edema"], [])}, score="pairs")
    with pytest.raises(InputError, match=r"label '\[SEP\]', positive prompt 1"):
        engine.zero_shot_classifier(["edema", "[SEP]"])


def test_manifests_say_what_is_known(tmp_path: Path) -> None:
    assert tuple(SCORES) == parts.SCORES
    assert [score.sides for score in SCORES.values()] == [("positive", "negative"), ("positive",), ("positive",)]
    wrong = {"score": "cosine", "logit_scale": 0.0, "templates": ["a film"], "embedding_size": 3}
    with pytest.raises(BundleError) as raised:
        runtime.load(bundle_of(tmp_path, **wrong))
    for fault in (
        "joint.score is 'cosine'; this version knows: pairs, softmax, sigmoid",
        "joint.logit_scale is 0.0",
        "joint.templates has 'a film', without a {}",
        "joint.embedding_size is 3, image.embedding_size is 16",
    ):
        assert fault in str(raised.value)


def test_the_default_of_functions_is_that_of_bundles_without_a_joint() -> None:
    prompts = check_prompts(PAIRS)
    assert resolve(PAIRS, "biovil") == (prompts, "biovil", parts.COSINES.score)

    class Text:
        def encode(self, texts: list[str], *, normalize: bool) -> np.ndarray:
            return np.eye(len(texts), 8, dtype=np.float32)

    found = build_classifier(Text(), prompts, "biovil")
    assert (found.score, found.logit_scale, found.logit_bias) == (
        parts.COSINES.score,
        parts.COSINES.logit_scale,
        parts.COSINES.logit_bias,
    )


def test_the_command_takes_the_bundles_score_or_another(tmp_path: Path, films: list[np.ndarray]) -> None:
    from PIL import Image

    joint = {"logit_scale": SCALE, "logit_bias": BIAS, "score": "softmax", "templates": TEMPLATES}
    bundle = bundle_of(tmp_path, **joint)
    engine = runtime.load(bundle, provider="cpu")
    Image.fromarray(films[0]).save(tmp_path / "film.png")
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS))
    assert [each.label for each in read_prompts(tmp_path / "labels.json", TEMPLATES)] == LABELS

    def classified(*options: str) -> tuple[dict[str, object], list[float]]:
        out = tmp_path / "found.csv"
        command = ["classify", str(bundle), str(tmp_path / "film.png"), "--out", str(out), "--force", "--json"]
        report = json.loads(run_module("runtime", *command, "--provider", "cpu", *options).stdout)
        return report, [float(value) for value in out.read_text().splitlines()[1].split(",")[1:]]

    report, found = classified("--prompts", str(tmp_path / "labels.json"))
    assert report["score"] == "softmax"
    assert found == pytest.approx(list(engine.classify(tmp_path / "film.png", LABELS).values()), abs=1e-6)
    report, found = classified("--prompts", str(tmp_path / "pairs.json"), "--score", "pairs")
    assert report["score"] == "pairs"
    assert found == pytest.approx(list(engine.classify(tmp_path / "film.png", PAIRS, score="pairs").values()), abs=1e-6)
    refused = run_module(
        "runtime", "classify", str(bundle), "x.png", "--prompts", "chexpert", "--out", str(tmp_path / "o.csv"), expect=1
    )
    assert "'chexpert' affirm and deny each label" in refused.stderr
