"""The tiny image graph, quantized, and the tiny text model in every precision for processors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from export.build import CalibrationSources, export_bundle
from export.checkpoints import read_tensors
from export.graphs import GraphInfo, GraphSpec, export_graph
from export.graphs.image_rewrites import ImageEmbeddingGraph
from export.precision import Lowering
from export.precision.int8_image import ImageQuantizer
from export.reference import build_image_model
from export.samples.films import varied_films
from runtime.bundle import Manifest
from runtime.image.images import resize_and_crop
from tests.conftest import tiny_family
from tests.runtime.parts import grey_rule

CROP = 96
SPEC = GraphSpec(
    inputs={"pixel_values": ("batch", CROP, CROP)},
    outputs={"image_embeds": ("batch", 128), "patch_embeds": ("batch", 3, 3, 128)},
    limits={"batch": None},
)
CALIBRATION, HELD_OUT = 24, 12
# Of `exported`.
PRECISIONS = ("fp32", "int8", "int8-dynamic")


@dataclass(frozen=True)
class Quantized:
    path: Path
    info: GraphInfo
    progress: list[float]

    @property
    def model(self) -> onnx.ModelProto:
        return onnx.load(self.path)


@pytest.fixture(scope="session")
def films() -> NDArray[np.uint8]:
    films = varied_films(CROP, seed=3)
    return np.stack(
        [resize_and_crop(Image.fromarray(next(films)), grey_rule(CROP, CROP)) for _ in range(CALIBRATION + HELD_OUT)]
    )


@pytest.fixture(scope="session")
def calibration(films: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return films[:CALIBRATION]


@pytest.fixture(scope="session")
def held_out(films: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return films[CALIBRATION:]


@pytest.fixture(scope="session")
def source(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tiny_family().image
    model = build_image_model(image).eval()
    model.load_state_dict(read_tensors(tiny_checkpoint / image.weights_name))
    path = tmp_path_factory.mktemp("image") / "model.onnx"
    pixels = torch.randint(0, 256, (2, CROP, CROP), dtype=torch.uint8)
    export_graph(ImageEmbeddingGraph(model, image.preprocessing).eval().requires_grad_(False), (pixels,), SPEC, path)
    return path


@pytest.fixture(scope="session")
def quantized(
    source: Path, calibration: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Quantized]:
    folder, made, shares = tmp_path_factory.mktemp("int8"), {}, []
    quantizer = ImageQuantizer(source, SPEC, calibration, shares.append)
    for name in ("cpu", "tensorrt"):
        path = folder / f"model_{name}.onnx"
        made[name] = Quantized(path, quantizer.write(path, symmetric=name == "tensorrt"), shares)
    return made


@pytest.fixture(scope="session")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A bundle of the tiny text model in `PRECISIONS`."""
    out = tmp_path_factory.mktemp("lowered") / "bundle"
    small = CalibrationSources(texts=48, texts_held_out=24)
    family = tiny_family("cxr-bert-specialized")
    return out, export_bundle(family, str(tiny_checkpoint), out, lowering=Lowering(PRECISIONS), calibration=small)
