"""The trained model, its bundle and its engines, made once; what PyTorch makes of cases that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import runtime
from export.reference import TextReference
from tests.trained.calibration import write_captions, write_images, write_labels, write_prompts
from tests.trained.cases import Case, held_out_cases
from tests.trained.figures import figures
from tests.trained.models import biovil

PRECISIONS = ("fp32", "fp16", "int8")
COUNT = 480


@dataclass(frozen=True)
class Trained:
    """The checkpoint, its bundle, cases it was not trained on, and what PyTorch makes of them.

    Attributes:
        films: folder with the cases' images, 0000.png and so on; labels and prompts, beside it, are files of which
            finding they show.
        encode_texts: texts → float32 (N, 128), not normalized.
        image_embeds: float32 (cases, 128), unit norm.
        patch_embeds: float32 (cases, 4, 4, 128), unit norm.
        figures: see `tests.trained.figures`.
    """

    checkpoint: Path
    bundle: Path
    films: Path
    labels: Path
    prompts: Path
    text: TextReference
    image: torch.nn.Module
    cases: list[Case]
    encode_texts: Callable[[list[str]], NDArray]
    image_embeds: NDArray
    patch_embeds: NDArray
    figures: dict[str, float]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from export.build import CalibrationSources, export_bundle
    from export.precision import Lowering
    from export.samples.zero_shot import ZeroShotSources

    checkpoint = biovil.checkpoint()
    folder = tmp_path_factory.mktemp("trained")
    bundle, films = folder / "bundle", folder / "films"
    texts, images = write_captions(folder / "captions.txt"), write_images(folder / "images")
    cases = held_out_cases(COUNT)
    films.mkdir()
    for number, case in enumerate(cases):
        Image.fromarray(case.image).save(films / f"{number:04}.png")
    labels, prompts = write_labels(folder / "labels.csv", cases), write_prompts(folder / "prompts.json")
    labelled = ZeroShotSources(films, labels, str(prompts))
    # Not enforced: the plain recipes are what is tried here, without a search for better ones.
    export_bundle(
        biovil.FAMILY,
        str(checkpoint),
        bundle,
        lowering=Lowering(PRECISIONS, enforced=False),
        calibration=CalibrationSources(text=texts, images=images, zero_shot=labelled),
    )
    text, image = biovil.load_models(checkpoint)
    encode_texts = biovil.reference_texts(text, checkpoint)
    image_embeds, patch_embeds = biovil.reference_images(image, cases)
    reached = figures(cases, encode_texts, image_embeds, patch_embeds)
    files = (checkpoint, bundle, films, labels, prompts)
    return Trained(*files, text, image, cases, encode_texts, image_embeds, patch_embeds, reached)


@pytest.fixture(scope="session")
def engines(trained: Trained) -> Mapping[str, runtime.Engine]:
    """Precision → engine on ONNX Runtime's CPU."""
    return {
        precision: runtime.load(trained.bundle, provider="cpu", precision=precision) for precision in ("fp32", "int8")
    }


@pytest.fixture(scope="session")
def image_embeds(trained: Trained, engines: Mapping[str, runtime.Engine]) -> Mapping[str, NDArray]:
    """Precision → embeddings of all cases by the engine: float32 (cases, 128)."""
    images = [case.image for case in trained.cases]
    return {precision: engine.image.encode(images) for precision, engine in engines.items()}
