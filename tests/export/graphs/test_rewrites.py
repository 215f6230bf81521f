"""Each rewrite against the untouched reference implementation, at small size; test_full_size.py has the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.checkpoints import read_tensors
from export.families import FAMILIES
from export.graphs.image_rewrites import ImageEmbeddingGraph
from export.graphs.text_rewrites import TextEmbeddingGraph
from export.reference import TextReference, build_image_model, image_embeddings, untrained_text
from export.samples import chest_phantom
from tests.conftest import tiny_config, tiny_family

RULE = tiny_family().image.preprocessing


@pytest.fixture(scope="module")
def text_model(tiny_checkpoint: Path) -> TextReference:
    model = untrained_text(tiny_config()).eval()
    model.load_state_dict(read_tensors(tiny_checkpoint / "pytorch_model.bin"), strict=False)
    return TextReference(model)


@pytest.fixture(scope="module")
def image_model(tiny_checkpoint: Path) -> nn.Module:
    family = tiny_family()
    model = build_image_model(family.image).eval()
    model.load_state_dict(read_tensors(tiny_checkpoint / family.image.weights_name))
    return model


def batch(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows * length)
    mask = torch.ones(rows, length, dtype=torch.int64)
    for row in range(1, rows):
        mask[row, int(torch.randint(2, length, (1,), generator=generator)) :] = 0
    return torch.randint(5, 1000, (rows, length), generator=generator) * mask, mask


@pytest.mark.parametrize(("rows", "length"), [(1, 3), (2, 17), (7, 64), (2, 512)])
def test_text_graph_equals_the_reference_package(tiny_checkpoint: Path, text_model, rows: int, length: int) -> None:
    from tests.oracle import reference_text_model

    reference = reference_text_model(tiny_checkpoint)
    input_ids, attention_mask = batch(rows, length)
    with torch.no_grad():
        expected = reference.get_projected_text_embeddings(input_ids, attention_mask)
        raw = reference.get_projected_text_embeddings(input_ids, attention_mask, normalize_embeddings=False)
        text_embeds, projected = TextEmbeddingGraph(text_model)(input_ids, attention_mask)
    assert (text_embeds - expected).abs().max() <= 1e-6
    assert (projected - raw).abs().max() <= 1e-5 * raw.abs().max()
    assert (text_model.embed(input_ids, attention_mask) - raw).abs().max() <= 1e-5 * raw.abs().max()


def test_the_last_layer_computes_cls_only(text_model) -> None:
    """By the shapes that pass through its feed-forward part."""
    graph, seen = TextEmbeddingGraph(text_model), []
    for layer in graph.layers:
        layer.intermediate.dense.register_forward_hook(lambda module, given, result: seen.append(result.shape[1]))
    with torch.no_grad():
        graph(*batch(2, 20))
    for layer in graph.layers:
        layer.intermediate.dense._forward_hooks.clear()
    assert seen == [20, 20, 1]


def test_rewriting_leaves_the_reference_untouched(text_model, image_model) -> None:
    before = {name: value.clone() for name, value in (*text_model.state_dict().items(),)}
    TextEmbeddingGraph(text_model)
    ImageEmbeddingGraph(image_model, RULE)
    assert all(torch.equal(value, before[name]) for name, value in text_model.state_dict().items())
    assert image_model.encoder.encoder.conv1.weight.shape == (64, 3, 7, 7)


def test_image_graph_equals_the_untouched_model(image_model) -> None:
    pixels = torch.from_numpy(np.stack([chest_phantom(96, 96, seed, (0.4, 0.3)) for seed in range(3)]))
    with torch.no_grad():
        found = ImageEmbeddingGraph(image_model, RULE)(pixels)
        expected = image_embeddings(image_model, pixels.float().div(255)[:, None].expand(-1, 3, -1, -1))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 5e-6


def test_the_image_reference_is_the_reference_package(image_model) -> None:
    """Its class, its names and shapes at full size, and its own patch embeddings."""
    from health_multimodal.image import ImageModel

    assert type(image_model) is ImageModel
    with torch.device("meta"):
        published, built = ImageModel("resnet50", joint_feature_size=128), build_image_model(FAMILIES["biovil"].image)
    shapes = [{name: each.shape for name, each in model.state_dict().items()} for model in (published, built)]
    assert shapes[0] == shapes[1]
    pixels = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        image_embeds, patch_embeds = image_embeddings(image_model, pixels)
        expected = torch.nn.functional.normalize(image_model(pixels).projected_global_embedding, dim=-1)
    assert torch.equal(image_embeds, expected)
    assert torch.equal(patch_embeds, image_model.get_patchwise_projected_embeddings(pixels, normalize=True))


@pytest.mark.slow
def test_the_reference_package_is_imported_where_its_models_are_built_alone(fresh_python) -> None:
    """And named with the install command where it is not there; nothing is printed on the way."""
    code = """
import sys
from export.families import FAMILIES
from export.reference import build_image_model, untrained_text
from tests.conftest import tiny_config
untrained_text(tiny_config(), "none")
import export.build
assert not any(name.startswith("health_multimodal") for name in sys.modules)
sys.modules["health_multimodal"] = None
from runtime.errors import MissingExtraError
try:
    build_image_model(FAMILIES["biovil"].image)
except MissingExtraError as error:
    print(error)
"""
    expected = "Building the reference model needs the package 'hi-ml-multimodal', which is not installed. "
    assert fresh_python(code).strip() == expected + "Install it with: pip install 'cxr-engine[export]'"


def test_untrained_models_have_no_memory_of_others() -> None:
    """What was taken without weights is filled: the same seed gives the same model."""
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_image_model(tiny_family().image).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert states[0]["projector.model.0.weight"].std() > 0.01
    assert states[0]["projector.model.1.running_var"].eq(1).all()


@pytest.mark.parametrize("where", ["conv", "norm"])
def test_negative_control_swapped_channels(image_model, where: str) -> None:
    pixels = torch.from_numpy(chest_phantom(96, 96, 0))[None]
    graph = ImageEmbeddingGraph(image_model, RULE)
    with torch.no_grad():
        before = graph(pixels)[1]
        conv = graph.blocks[1].convolutions[1]
        tensor = conv.weight if where == "conv" else conv.bias
        tensor[[3, 4]] = tensor[[4, 3]]
        assert (graph(pixels)[1] - before).abs().max() > 1e-5
