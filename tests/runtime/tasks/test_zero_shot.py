"""Zero-shot classification against the reference package's own code and against CheXzero's formula in torch."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.errors import BundleError, InputError
from runtime.tasks.prompt_sets import prompt_set
from runtime.tasks.prompts import check_prompts
from runtime.tasks.zero_shot import RULES, ZeroShotClassifier, build_classifier
from tests.conftest import System

PROMPTS = {
    "Pneumonia": (
        ["Findings consistent with pneumonia", "Findings suggesting pneumonia!", "opacity"],
        ["There is no pneumonia", "No evidence of acute pneumonia in either lung."],
    ),
    "Edema": (["edema"], ["no edema", "No signs of edema", "clear lungs", "dry"]),
    "Effusion": (["pleural effusion"], ["no pleural effusion"]),
}


@pytest.fixture(scope="module")
def engine(tiny: System) -> runtime.Engine:
    return runtime.load(tiny.bundle, provider="cpu")


@pytest.fixture(scope="module")
def films() -> list[np.ndarray]:
    return [chest_phantom(150, 180, seed) for seed in range(5)]


@pytest.fixture(scope="module")
def image_embeds(engine: runtime.Engine, films: list[np.ndarray]) -> np.ndarray:
    return engine.image.encode(films)


@pytest.fixture(scope="module")
def reference_text(tiny: System):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tests.oracle import reference_text_engine

    return reference_text_engine(tiny.checkpoint)


def test_biovil_scores_are_those_of_the_reference_package(
    engine: runtime.Engine, films: list[np.ndarray], image_embeds: np.ndarray, reference_text
) -> None:
    """Its own text engine and its own `get_similarity_score_from_raw_data`, on the same image embeddings."""
    from health_multimodal.vlp import ImageTextInferenceEngine

    class Images:
        model = torch.nn.Identity().eval()

        def get_projected_global_embedding(self, path: int) -> torch.Tensor:
            return torch.tensor(image_embeds[path])

    reference = ImageTextInferenceEngine(Images(), reference_text)
    classifier = engine.zero_shot_classifier(PROMPTS, "biovil")
    assert classifier.labels == tuple(PROMPTS)
    scores = classifier.scores(image_embeds)
    assert scores.shape == (5, 3, 2)
    assert scores.dtype == np.float32
    probabilities = classifier.probabilities(image_embeds)
    found = engine.classify(films, PROMPTS)
    for index in range(len(films)):
        for column, (label, (positive, negative)) in enumerate(PROMPTS.items()):
            expected = [reference.get_similarity_score_from_raw_data(index, side) for side in (positive, negative)]
            assert scores[index, column] == pytest.approx(expected, abs=1e-6)
            assert found[index][label] == pytest.approx(float(torch.tensor(expected).softmax(0)[0]), abs=1e-6)
            assert found[index][label] == pytest.approx(float(probabilities[index, column]), abs=1e-6)
            assert abs(expected[0] - expected[1]) > 1e-5, "else the next line would prove nothing"
            assert (found[index][label] > 0.5) == (expected[0] > expected[1]), "the reference's decision"


def test_chexzero_scores_are_its_formula_in_torch(
    engine: runtime.Engine, image_embeds: np.ndarray, reference_text
) -> None:
    def weights(prompts: list[str]) -> torch.Tensor:
        embeddings = reference_text.get_embeddings_from_prompt(prompts, normalize=False)
        embeddings = embeddings / embeddings.norm(dim=-1, keepdim=True)
        mean = embeddings.mean(dim=0)
        return mean / mean.norm()

    images = torch.tensor(image_embeds)
    classifier = engine.zero_shot_classifier(PROMPTS, "chexzero")
    for column, (positive, negative) in enumerate(PROMPTS.values()):
        pos, neg = images @ weights(positive), images @ weights(negative)
        assert classifier.scores(image_embeds)[:, column] == pytest.approx(torch.stack([pos, neg], 1).numpy(), abs=1e-6)
        expected = (pos.exp() / (pos.exp() + neg.exp())).numpy()
        assert classifier.probabilities(image_embeds)[:, column] == pytest.approx(expected, abs=1e-6)


class UnevenText:
    """Stands for a text encoder: projections of very different lengths, which a small random model does not give."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] = {}

    def encode(self, texts: list[str], *, normalize: bool) -> np.ndarray:
        assert not normalize
        rng = np.random.default_rng(len(self.rows))
        for text in texts:
            self.rows[text] = (rng.normal(size=128) * 10 ** rng.uniform(-2, 2)).astype(np.float32)
        return np.stack([self.rows[text] for text in texts])


def test_the_rules_differ_for_several_prompts_and_agree_for_one(image_embeds: np.ndarray) -> None:
    images = torch.tensor(image_embeds)
    found = {}
    for rule in RULES:
        text = UnevenText()
        classifier = build_classifier(text, check_prompts(PROMPTS), rule)
        scores = found[rule] = classifier.scores(image_embeds)
        for column, sides in enumerate(PROMPTS.values()):
            for side, prompts in enumerate(sides):
                rows = torch.tensor(np.stack([text.rows[prompt] for prompt in prompts]))
                if rule != "biovil":
                    rows = torch.nn.functional.normalize(rows, dim=1)
                expected = images @ torch.nn.functional.normalize(rows.mean(dim=0), dim=0)
                assert scores[:, column, side] == pytest.approx(expected.numpy(), abs=1e-6)
    difference = np.abs(found["biovil"] - found["chexzero"]).max(axis=0)
    is_one = np.array([[len(prompts) == 1 for prompts in sides] for sides in PROMPTS.values()])
    assert difference[is_one].max() < 1e-6
    assert difference[~is_one].min() > 1e-2
    assert np.array_equal(found["clip"], found["chexzero"])


def test_rules_by_hand() -> None:
    """Projections (3, 0) and (0, 1): unnormalized the long one prevails, normalized they count alike."""
    rows = np.array([[3, 0], [0, 1]], np.float32)
    assert np.allclose(RULES["biovil"](rows), np.array([3, 1]) / np.sqrt(10))
    assert np.allclose(RULES["chexzero"](rows), np.array([1, 1]) / np.sqrt(2))
    embeds = np.array([[[1, 0], [0, 1]]], np.float32)
    classifier = ZeroShotClassifier(("x",), "biovil", embeds)
    images = np.array([[1, 0], [0.6, 0.8], [-1, 0]], np.float32)
    assert np.allclose(classifier.scores(images)[:, 0], [[1, 0], [0.6, 0.8], [-1, 0]])
    expected = np.exp([1, 0.6, -1]) / (np.exp([1, 0.6, -1]) + np.exp([0, 0.8, 0]))
    assert np.allclose(classifier.probabilities(images)[:, 0], expected)


def test_one_image_gives_a_dict_and_many_a_list(
    engine: runtime.Engine, films: list[np.ndarray], tmp_path: Path
) -> None:
    file = tmp_path / "film.png"
    Image.fromarray(films[0]).save(file)
    alone = engine.classify(str(file), PROMPTS)
    assert list(alone) == list(PROMPTS)
    assert all(type(value) is float for value in alone.values())
    for one in (file, films[0], Image.fromarray(films[0])):
        assert engine.classify(one, PROMPTS) == pytest.approx(alone, abs=1e-6)
    for many in ([file], (file,), iter([file]), films[0][None].repeat(5, 0)):
        found = engine.classify(many, PROMPTS)
        assert isinstance(found, list)
        assert found[0] == pytest.approx(alone, abs=1e-6)
    assert len(engine.classify(films, PROMPTS)) == 5
    assert engine.classify(films, PROMPTS)[3] == pytest.approx(engine.classify(films[3], PROMPTS), abs=1e-6)


def test_prompts_are_embedded_once(
    engine: runtime.Engine, films: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    encode = engine.text.encode
    monkeypatch.setattr(
        engine.text, "encode", lambda texts, **options: calls.append(len(texts)) or encode(texts, **options)
    )
    prompts = {"x": (["opacity in the left lung"], ["no opacity there"]), "y": (["a", "b"], ["c"])}
    first = engine.classify(films[0], prompts)
    assert calls == [5], "all prompts in one call"
    assert (
        engine.classify(films[0], {label: [tuple(side) for side in pair] for label, pair in prompts.items()}) == first
    )
    assert engine.zero_shot_classifier(prompts) is engine.zero_shot_classifier(dict(prompts))
    assert calls == [5]
    engine.classify(films[0], prompts, rule="chexzero")
    assert calls == [5, 5]
    prompts["y"] = (["a", "d"], ["c"])
    assert engine.classify(films[0], prompts)["y"] != first["y"], "other prompts are other classifiers"
    assert calls == [5, 5, 5]


def test_what_is_shared_cannot_be_changed(engine: runtime.Engine) -> None:
    with pytest.raises(ValueError, match="read-only"):
        engine.zero_shot_classifier(PROMPTS).prompt_embeds[0] = 0


def test_built_in_sets_by_name(engine: runtime.Engine, films: list[np.ndarray]) -> None:
    for name in ("pneumonia", "chexpert"):
        prompts = {each.label: (each.positive, each.negative) for each in prompt_set(name).prompts}
        assert engine.classify(films[0], name) == engine.classify(films[0], prompts)
    assert len(engine.classify(films[0], "chexpert")) == 14
    with pytest.raises(InputError, match="no prompt set 'chest'; there are: pneumonia, chexpert"):
        engine.classify(films[0], "chest")


def test_the_image_part_is_not_needed_for_embeddings(tiny: System, image_embeds: np.ndarray) -> None:
    engine = runtime.load(tiny.bundle, provider="cpu", parts=["text"])
    assert engine.zero_shot_classifier(PROMPTS).probabilities(image_embeds).shape == (5, 3)
    with pytest.raises(BundleError, match="image part was not loaded"):
        engine.classify("film.png", PROMPTS)


@pytest.mark.parametrize("rule", ["clips", "", 3, ["biovil"]])
def test_unknown_rules(engine: runtime.Engine, rule: object) -> None:
    with pytest.raises(InputError, match=r"There is no rule .*; there are: biovil, chexzero, clip"):
        engine.zero_shot_classifier(PROMPTS, rule)  # type: ignore[arg-type]


def test_prompts_that_the_text_encoder_refuses_are_named_with_their_label(engine: runtime.Engine) -> None:
    prompts = {"Edema": (["edema"], ["no", "[CLS] edema"]), "Long": (["a", "1 " * 600], ["b"])}
    with pytest.raises(InputError) as caught:
        engine.zero_shot_classifier(prompts)
    message = str(caught.value)
    assert "2 of 6 prompts cannot be used" in message
    assert "label 'Edema', negative prompt 2 ('[CLS] edema'): contains the special token [CLS]" in message
    assert "label 'Long', positive prompt 2" in message
    assert [fault.index for fault in caught.value.faults] == [0, 1], "positions of the labels"


def test_bad_images_are_named(engine: runtime.Engine, films: list[np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 of 2 images .*\n.*absent\.png"):
        engine.classify([films[0], tmp_path / "absent.png"], PROMPTS)
    with pytest.raises(InputError, match="list of images is empty"):
        engine.classify([], PROMPTS)


def test_image_embeddings_that_cannot_be_used(engine: runtime.Engine, image_embeds: np.ndarray) -> None:
    classifier = engine.zero_shot_classifier(PROMPTS)
    for wrong, message in (
        (image_embeds[0], r"float32 \(128,\); float32 \(N, 128\) is expected"),
        (image_embeds[:, :64], r"float32 \(5, 64\)"),
        (image_embeds.astype(int), r"int64 \(5, 128\)"),
        (image_embeds * np.array([[1], [1], [3], [1], [1]]), r"1 of 5 rows .* no unit norm \(row 2: 3\)"),
        (np.where(np.arange(5)[:, None] == 4, np.nan, image_embeds), r"row 4: nan"),
    ):
        with pytest.raises(InputError, match=message):
            classifier.probabilities(wrong)
    assert classifier.probabilities(image_embeds[:0]).shape == (0, 3)
    exact = classifier.probabilities(image_embeds)
    assert np.abs(classifier.probabilities(image_embeds.astype(np.float16)) - exact).max() < 1e-3
    assert np.abs(classifier.probabilities(image_embeds.astype(np.float64)) - exact).max() < 1e-6


def test_a_thousand_embeddings_and_fourteen_labels_take_less_than_50_ms(engine: runtime.Engine) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 128)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    engine.zero_shot_classifier("chexpert")

    def seconds() -> float:
        start = time.perf_counter()
        found = engine.zero_shot_classifier("chexpert").probabilities(rows)
        taken = time.perf_counter() - start
        assert found.shape == (1000, 14)
        return taken

    assert min(seconds() for _ in range(10)) < 0.05, "0.2 ms is usual"
