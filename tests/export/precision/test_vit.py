"""int8 of a vision transformer: the class token and the patches, in every form, on the engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from export.families import FAMILIES
from export.graphs.vit_faces import all_tokens_graph, embedding_spec, export_vit, patches_spec, write_vit_face
from export.precision.int8 import FORMS, GroupPlan, TextQuantizer, find_groups
from export.precision.producers import find_producer
from export.precision.recipes import IMAGE_RECIPES
from export.precision.statistics import TensorStatistics, collect_statistics
from runtime.engines import PROVIDERS, SessionOptions
from tests.export.graphs import clips

CPU = PROVIDERS["cpu"]
EMBEDDING = embedding_spec(clips.SIZE, clips.RULE.shape)
PATCHES = patches_spec(clips.SIZE, clips.RULE.shape, clips.GRID)
TOKENS = clips.GRID**2 + 1


def test_every_image_tower_has_recipes() -> None:
    towers = {family.image.architecture for family in FAMILIES.values() if family.image}
    assert {"resnet50", "vit"} <= towers <= set(IMAGE_RECIPES)


class Vit:
    """An exported model, and statistics of it on some pictures."""

    def __init__(self, folder: Path) -> None:
        self.model: nn.Module = clips.transformers_clip()
        self.source = folder / "model.onnx"
        export_vit(clips.Reference(self.model), self.source, EMBEDDING)
        write_vit_face(self.source, folder / "patches.onnx", PATCHES)
        self.groups = find_groups(onnx.load(self.source, load_external_data=False))
        self.tensors = [group.tensor for group in self.groups]
        calibration = clips.pictures(48, seed=1).numpy()
        self.feeds = [{"pixel_values": calibration[start : start + 8]} for start in range(0, 48, 8)]
        changed = all_tokens_graph(self.source)
        self.statistics = collect_statistics(self.source, self.tensors, self.feeds, CPU, changed=changed)
        self.pixels = clips.pictures(7, seed=2)
        self.expected = self.embed("patches.onnx", "cpu", "fp32")

    def write(self, form: str, statistics: dict[str, TensorStatistics] | None = None) -> str:
        """Write the int8 graph and its twin; the twin's name."""
        quantizer = TextQuantizer(self.source, EMBEDDING, statistics or self.statistics)
        plans = {group.tensor: GroupPlan() for group in quantizer.groups}
        quantizer.write(self.source.with_name("int8.onnx"), plans, form)
        write_vit_face(self.source.with_name("int8.onnx"), self.source.with_name("int8_patches.onnx"), PATCHES)
        return "int8_patches.onnx"

    def embed(self, name: str, engine: str, precision: str) -> list[NDArray[Any]]:
        """image_embeds and, if the graph has them, patch_embeds."""
        session = PROVIDERS[engine].open(self.source.with_name(name), SessionOptions(threads=1, precision=precision))
        outputs = ["image_embeds", "patch_embeds"] if "patches" in name else ["image_embeds"]
        return session.run(outputs, {"pixel_values": self.pixels.numpy()})

    def losses(self, name: str, engine: str) -> tuple[float, float]:
        """1 - mean cosine of pictures and of patches."""
        found = self.embed(name, engine, "int8")
        pictures, patches = (
            1 - float((one * other).sum(-1).mean()) for one, other in zip(found, self.expected, strict=True)
        )
        return pictures, patches


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Vit:
    return Vit(tmp_path_factory.mktemp("vit"))


@pytest.mark.slow
def test_statistics_are_of_all_tokens(vit: Vit) -> None:
    """By the twin that computes all of them, and NumPy."""
    model = onnx.load(vit.source.with_name("patches.onnx"))
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in vit.tensors)
    path = vit.source.with_name("watched.onnx")
    onnx.save(model, path)
    session = CPU.open(path, SessionOptions(threads=1, precision="fp32"))
    values = [session.run(vit.tensors, feed) for feed in vit.feeds]
    for name, each in zip(vit.tensors, zip(*values, strict=True), strict=True):
        rows = np.concatenate([value.reshape(-1, value.shape[-1]) for value in each]).astype(np.float64)
        found = vit.statistics[name]
        assert found.rows == len(rows) == 48 * TOKENS
        np.testing.assert_allclose(found.lowest, rows.min(axis=0), atol=1e-4)
        np.testing.assert_allclose(found.highest, rows.max(axis=0), atol=1e-4)
        covariance = np.cov(rows, rowvar=False, bias=True)
        np.testing.assert_allclose(found.covariance, covariance, atol=1e-4 * np.abs(covariance).max())


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("engine", ["cpu", "openvino"])
def test_every_form_keeps_pictures_and_patches(vit: Vit, form: str, engine: str) -> None:
    name = vit.write(form)
    assert max(vit.losses(name, engine)) <= 1e-3
    with torch.no_grad():
        upstream = clips.embed_pictures(vit.model, vit.pixels).numpy()
    (alone,) = vit.embed("int8.onnx", engine, "int8")
    assert (alone * upstream).sum(-1).mean() >= 0.999
    assert (alone * upstream).sum(-1).mean() < 0.9999999, "nothing was quantized"


@pytest.mark.slow
def test_all_products_are_quantized_as_the_form_says(vit: Vit) -> None:
    weights = {name for group in vit.groups for name in group.weights}
    assert len(weights) == 3 * 6
    for form, kind, zero in (("static", np.uint8, 128), ("tensorrt", np.int8, 0)):
        vit.write(form)
        model = onnx.load(vit.source.with_name("int8.onnx"))
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        products = [node.input[1] for node in model.graph.node if node.op_type == "MatMul"]
        assert {f"{name}:dequantized" for name in weights} <= set(products)
        zeros = [values[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
        assert len(zeros) == len(vit.groups)
        assert {(each.dtype.type, each.item()) for each in zeros} == {(kind, zero)}
        # Graphs share the file: no weight of the twin lies in another.
        twin = onnx.load(vit.source.with_name("int8_patches.onnx"), load_external_data=False)
        files = {
            entry.value for each in twin.graph.initializer for entry in each.external_data if entry.key == "location"
        }
        assert files == {"int8.onnx_data"}


@pytest.mark.slow
def test_negative_control_the_class_token_alone_says_nothing_of_patches(vit: Vit) -> None:
    alone = collect_statistics(vit.source, vit.tensors, vit.feeds, CPU)
    assert {found.rows for found in alone.values()} == {48, 48 * TOKENS}
    right, wrong = (vit.losses(vit.write("static", statistics), "cpu") for statistics in (None, alone))
    assert wrong[1] > 3 * right[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformers, quick_gelu", "transformers, gelu", "open_clip", "timm"])
def test_what_the_second_product_of_a_layer_reads_comes_of_the_first(tmp_path: Path, name: str) -> None:
    """Whatever the activation: only then its outlier channels can be had several times."""
    export_vit(clips.Reference(clips.VISIONS[name]()), tmp_path / "model.onnx", EMBEDDING)
    model = onnx.load(tmp_path / "model.onnx")
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    groups = find_groups(model)
    found = [find_producer(model.graph, group.tensor, values) for group in groups]
    places = [index for index, each in enumerate(found) if each is not None]
    assert len(places) == 3
    for place in places:
        assert found[place].weight in groups[place - 1].weights
        assert groups[place].shape[0] == groups[place - 1].shape[1]
