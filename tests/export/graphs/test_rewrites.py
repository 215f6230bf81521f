"""Each rewrite against the untouched reference implementation, at small size; test_full_size.py has the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.checkpoints import read_tensors
from export.graphs.image_rewrites import ImageEmbeddingGraph
from export.graphs.text_rewrites import TextEmbeddingGraph
from export.reference import BioViLImageModel, CXRBertModel, bert_config
from export.samples import chest_phantom
from tests.conftest import tiny_config, tiny_family


@pytest.fixture(scope="module")
def text_model(tiny_checkpoint: Path) -> CXRBertModel:
    model = CXRBertModel(bert_config(tiny_config())).eval()
    model.load_state_dict(read_tensors(tiny_checkpoint / "pytorch_model.bin"), strict=False)
    return model


@pytest.fixture(scope="module")
def image_model(tiny_checkpoint: Path) -> BioViLImageModel:
    family = tiny_family()
    model = BioViLImageModel(family.image).eval()
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
    assert (text_model.cls_projection(input_ids, attention_mask) - raw).abs().max() <= 1e-5 * raw.abs().max()


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
    ImageEmbeddingGraph(image_model)
    assert all(torch.equal(value, before[name]) for name, value in text_model.state_dict().items())
    assert image_model.encoder.encoder.conv1.weight.shape == (64, 3, 7, 7)


def test_image_graph_equals_the_untouched_model(image_model) -> None:
    pixels = torch.from_numpy(np.stack([chest_phantom(96, 96, seed, (0.4, 0.3)) for seed in range(3)]))
    with torch.no_grad():
        found = ImageEmbeddingGraph(image_model)(pixels)
        expected = image_model(pixels.float().div(255)[:, None].expand(-1, 3, -1, -1))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 5e-6


def test_the_image_reference_equals_the_reference_package(image_model) -> None:
    """The blocks are torchvision's in both; what is ours is how they are put together, so the size does not matter."""
    from health_multimodal.image import ImageModel

    reference = ImageModel("resnet50", joint_feature_size=128)
    # The same depth as the tiny model: one block a stage.
    for name in ("layer1", "layer2", "layer3", "layer4"):
        stage = getattr(reference.encoder.encoder, name)
        del stage[1:]
    reference.load_state_dict(image_model.state_dict())
    reference.eval()
    pixels = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.nn.functional.normalize(reference(pixels).projected_global_embedding, dim=-1)
    expected_patches = reference.get_patchwise_projected_embeddings(pixels, normalize=True)
    image_embeds, patch_embeds = image_model(pixels)
    assert torch.equal(image_embeds, expected)
    assert torch.equal(patch_embeds, expected_patches)


@pytest.mark.parametrize("where", ["conv", "norm"])
def test_negative_control_swapped_channels(image_model, where: str) -> None:
    pixels = torch.from_numpy(chest_phantom(96, 96, 0))[None]
    graph = ImageEmbeddingGraph(image_model)
    with torch.no_grad():
        before = graph(pixels)[1]
        conv = graph.blocks[1].spatial
        tensor = conv.weight if where == "conv" else conv.bias
        tensor[[3, 4]] = tensor[[4, 3]]
        assert (graph(pixels)[1] - before).abs().max() > 1e-5
