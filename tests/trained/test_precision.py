"""Trained weights, exported and run in every precision, understand images and texts as well as PyTorch does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.bundle import open_bundle
from runtime.engines import PROVIDERS, SessionOptions, Sessions
from runtime.image.encoder import ImageEncoder
from runtime.text import TextEncoder, Tokenizer
from tests.oracle import reference_text_engine
from tests.trained.cases import Case
from tests.trained.conftest import COUNT, PRECISIONS, Trained
from tests.trained.figures import CHANCE, figures
from tests.trained.models import biovil
from tests.trained.rounding import coarse_weights
from tests.trained.wordings import finding_prompts

pytestmark = pytest.mark.slow

# Well below what PyTorch reaches with several seeds of the training, well above chance.
BOUNDS = {"finding": 0.95, "location": 0.98, "retrieval": 0.95, "grounding": 0.85, "pointing": 0.97}
# One percentage point, as every figure is a share.
TOLERANCE = {"fp32": 0.0, "fp16": 0.01, "int8": 0.01}


def test_the_reference_understands_images_and_texts(trained: Trained) -> None:
    missed = {name: value for name, value in trained.figures.items() if value < BOUNDS[name]}
    assert not missed, trained.figures


def _encoders(folder: Path, precision: str) -> tuple[TextEncoder, ImageEncoder]:
    """The encoders on ONNX Runtime's CPU, also of graphs that are meant for a GPU."""
    bundle = open_bundle(folder)
    sessions = []
    for part in (bundle.text_part(), bundle.image_part()):
        file = next(found.file for found in part.artifacts if found.precision == precision)
        sessions.append(PROVIDERS["cpu"].open(bundle.path(file), SessionOptions(2, precision)))
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)
    text, image = (Sessions(lambda _, opened=session: opened, 1) for session in sessions)
    return (
        TextEncoder(bundle.text_part(), text, tokenizer, token_budget=PROVIDERS["cpu"].batch["text"]),
        ImageEncoder(bundle.image_part(), image, batch=PROVIDERS["cpu"].batch["image"]),
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_understands_them_as_well(trained: Trained, precision: str) -> None:
    text, image = _encoders(trained.bundle, precision)
    images = [case.image for case in trained.cases]
    reached = figures(
        trained.cases,
        lambda texts: text.encode(texts, normalize=False),
        image.encode(images),
        image.encode_patches(images),
    )
    lost = {name: trained.figures[name] - value for name, value in reached.items()}
    # A case on the fence may fall to either side with any rounding.
    assert max(np.abs([*lost.values()])) <= TOLERANCE[precision] + 0.5 / COUNT, (reached, trained.figures)


def test_fp32_embeddings_are_those_of_pytorch_and_of_the_reference_package(trained: Trained) -> None:
    engine = runtime.load(trained.bundle, provider="cpu", precision="fp32")
    captions = [case.caption for case in trained.cases]
    expected = trained.encode_texts(captions)
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(engine.text.encode(captions) - expected).max() <= 1e-5
    independent = reference_text_engine(trained.checkpoint).get_embeddings_from_prompt(captions[:50]).numpy()
    assert np.abs(engine.text.encode(captions[:50]) - independent).max() <= 1e-5
    images = [case.image for case in trained.cases]
    assert np.abs(engine.image.encode(images) - trained.image_embeds).max() <= 1e-5
    assert np.abs(engine.image.encode_patches(images) - trained.patch_embeds).max() <= 1e-5


def test_similarity_maps_point_to_the_finding(trained: Trained) -> None:
    """The figures are made of maps computed all at once; the engine's own are the same kind of map."""
    engine = runtime.load(trained.bundle, provider="cpu", precision="fp32")
    prompts = finding_prompts()
    inside_is_higher = []
    for case in [case for case in trained.cases if case.location][:64]:
        values = engine.similarity_map(case.image, prompts[case.finding][0])
        top, left, bottom, right = case.region
        inside_is_higher.append(np.nanmean(values[top:bottom, left:right]) > np.nanmean(values))
    assert np.mean(inside_is_higher) >= 0.9


def test_wrong_labels_give_chance(trained: Trained) -> None:
    """Negative control: the figures do not come from the way they are computed."""
    order = np.random.default_rng(0).permutation(COUNT)
    present = [case for case in trained.cases if case.location]
    labels = np.random.default_rng(0).permutation(len(present))
    shuffled = iter(labels)
    wrong = [replace(case, **_labels(present[next(shuffled)])) if case.location else case for case in trained.cases]
    reached = figures(wrong, trained.encode_texts, trained.image_embeds, trained.patch_embeds)
    for name in ("location", "grounding", "pointing"):
        assert abs(reached[name] - CHANCE[name]) < 0.1, reached
    embeds, patches = trained.image_embeds[order], trained.patch_embeds[order]
    reached = figures(trained.cases, trained.encode_texts, embeds, patches)
    for name in ("finding", "retrieval"):
        assert reached[name] < CHANCE[name] + 0.1, reached


def _labels(case: Case) -> dict[str, object]:
    return {"finding": case.finding, "location": case.location, "region": case.region, "caption": case.caption}


def test_coarse_weights_are_noticed(trained: Trained) -> None:
    """Negative control: weights of 4 bits, one scale per tensor, lose far more than any precision may."""
    text, image = coarse_weights(trained.text), coarse_weights(trained.image)
    encode_texts = biovil.reference_texts(text, trained.checkpoint)
    reached = figures(trained.cases, encode_texts, *biovil.reference_images(image, trained.cases))
    assert trained.figures["finding"] - reached["finding"] > 0.1, reached
    assert trained.figures["retrieval"] - reached["retrieval"] > 0.1, reached
