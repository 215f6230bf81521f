"""Graphs of vision transformers against upstream's own untouched classes, in PyTorch and as ONNX on each engine."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from export.errors import GraphError
from export.graphs.towers import vision_tower
from export.graphs.vit import VitGraph
from export.graphs.vit_faces import embedding_spec, export_vit, patches_spec, write_vit_face
from export.precision.half import convert_half
from runtime.engines import PROVIDERS, Session, SessionOptions
from tests.export.graphs import clips

ENGINES = ("cpu", "openvino")
EMBEDDING = embedding_spec(clips.SIZE, clips.RULE.shape)
PATCHES = patches_spec(clips.SIZE, clips.RULE.shape, clips.GRID)
EVERY = torch.arange(clips.GRID**2 + 1)


@torch.no_grad()
def patch_embeddings(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Final norm and projection of each patch, by upstream's own modules: (N, rows, columns, D), unit norm."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (clips.RULE.mean, clips.RULE.std))
    values = (pixels / 255 - mean) / std
    if hasattr(model, "vision_model"):
        states = model.vision_model(pixel_values=values).last_hidden_state
        projected = model.visual_projection(model.vision_model.post_layernorm(states[:, 1:]))
    elif hasattr(model.visual, "trunk"):
        projected = model.visual.head(model.visual.trunk.forward_features(values)[:, 1:])
    else:
        visual = model.visual
        projected = visual.ln_post(visual.transformer(visual._embeds(values)))[:, 1:] @ visual.proj
    return F.normalize(projected, dim=-1).unflatten(1, (clips.GRID, clips.GRID))


@pytest.mark.parametrize("name", clips.VISIONS)
@torch.no_grad()
def test_the_graph_is_upstreams_function(name: str) -> None:
    model = clips.VISIONS[name]()
    graph, pixels = VitGraph(clips.Reference(model)), clips.pictures(7)
    expected = clips.embed_pictures(model, pixels)
    assert (graph(pixels, torch.tensor([0]))[:, 0] - expected).abs().max() <= 5e-6
    tokens = graph(pixels, EVERY)
    assert (tokens[:, 0] - expected).abs().max() <= 5e-6
    patches = tokens[:, 1:].unflatten(1, (clips.GRID, clips.GRID))
    assert (patches - patch_embeddings(model, pixels)).abs().max() <= 1e-5
    assert (expected @ expected.T).min() < 0.95, "pictures that embed alike would hide faults"


@pytest.fixture(scope="module", params=["transformers, quick_gelu", "open_clip", "timm"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A model, and the folder with the graph that embeds pictures and its twin that embeds patches as well."""
    model, folder = clips.VISIONS[request.param](), tmp_path_factory.mktemp("image")
    export_vit(clips.Reference(model), folder / "model.onnx", EMBEDDING)
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "model.onnx_data"]
    write_vit_face(folder / "model.onnx", folder / "patches.onnx", PATCHES)
    return model, folder


def session(path: Path, engine: str) -> Session:
    return PROVIDERS[engine].open(path, SessionOptions(threads=1, precision="fp32"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_engines_compute_upstreams_function(exported: tuple[nn.Module, Path], engine: str) -> None:
    model, folder = exported
    alone, with_patches = (session(folder / name, engine) for name in ("model.onnx", "patches.onnx"))
    for count in (1, 2, 7):
        pixels = clips.pictures(count, seed=count)
        expected = clips.embed_pictures(model, pixels).numpy()
        (image_embeds,) = alone.run(["image_embeds"], {"pixel_values": pixels.numpy()})
        assert np.abs(image_embeds - expected).max() <= 1e-5
        found = with_patches.run(["image_embeds", "patch_embeds"], {"pixel_values": pixels.numpy()})
        assert np.abs(found[0] - expected).max() <= 1e-5
        assert np.abs(found[1] - patch_embeddings(model, pixels).numpy()).max() <= 1e-5


def operators(model: onnx.ModelProto) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return sorted((node.op_type, tuple(node.input), tuple(node.output)) for node in model.graph.node)


def stored(model: onnx.ModelProto) -> dict[str, bytes]:
    """Weights by name: where they lie, or what they are."""
    return {
        tensor.name: tensor.raw_data or repr([(each.key, each.value) for each in tensor.external_data]).encode()
        for tensor in model.graph.initializer
    }


@pytest.mark.slow
def test_the_faces_share_weights_and_each_is_made_of_the_other(
    exported: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported[1], tmp_path / "onnx"))
    write_vit_face(folder / "patches.onnx", folder / "again.onnx", EMBEDDING)
    write_vit_face(folder / "again.onnx", folder / "patches_again.onnx", PATCHES)
    for one, other in (("model.onnx", "again.onnx"), ("patches.onnx", "patches_again.onnx")):
        left, right = (onnx.load(str(folder / name), load_external_data=False) for name in (one, other))
        assert operators(left) == operators(right)
        assert stored(left) == stored(right)
    alone, with_patches = (
        stored(onnx.load(str(folder / name), load_external_data=False)) for name in ("model.onnx", "patches.onnx")
    )
    assert alone.pop("tokens:count") != with_patches.pop("tokens:count")
    assert alone.items() <= with_patches.items()


@pytest.mark.slow
def test_a_face_of_half_precision_is_made_of_the_other(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """From either; and both give pictures the same embeddings, up to what half precision rounds."""
    model, source = exported
    folder = Path(shutil.copytree(source, tmp_path / "onnx"))
    convert_half(folder / "model.onnx", folder / "half.onnx", EMBEDDING, "fp16")
    write_vit_face(folder / "half.onnx", folder / "half_patches.onnx", PATCHES)
    write_vit_face(folder / "half_patches.onnx", folder / "again.onnx", EMBEDDING)
    pixels = clips.pictures(3)
    given = {"pixel_values": pixels.numpy()}
    (alone,), (again,) = (
        session(folder / name, "cpu").run(["image_embeds"], given) for name in ("half.onnx", "again.onnx")
    )
    found = session(folder / "half_patches.onnx", "cpu").run(["image_embeds", "patch_embeds"], given)
    expected = clips.embed_pictures(model, pixels).numpy(), patch_embeddings(model, pixels).numpy()
    assert np.abs(alone - again).max() <= 1e-6
    assert np.abs(alone - found[0]).max() <= 1e-3
    for one, other in zip(found, expected, strict=True):
        assert (one * other).sum(axis=-1).min() >= 0.9995


@pytest.mark.slow
def test_a_graph_that_does_not_say_what_it_computes_is_refused(
    exported: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported[1], tmp_path / "onnx"))
    model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    for node in model.graph.node:
        node.input[:] = ["other" if name == "tokens:count" else name for name in node.input]
    onnx.save(model, str(folder / "other.onnx"))
    with pytest.raises(GraphError, match="does not say for which tokens it is computed"):
        write_vit_face(folder / "other.onnx", folder / "made.onnx", PATCHES)


def test_the_last_layer_is_computed_for_the_class_token_alone() -> None:
    graph, seen = VitGraph(clips.Reference(clips.transformers_clip())), []
    for block in graph.blocks:
        block.fc1.register_forward_hook(lambda module, given, result: seen.append(result.shape[1]))
    with torch.no_grad():
        graph(clips.pictures(2), torch.tensor([0]))
    assert seen == [17, 17, 1]


@torch.no_grad()
@pytest.mark.parametrize("name", ["transformers, quick_gelu", "open_clip", "timm"])
@pytest.mark.parametrize("where", ["attention.key", "attention.value", "output", "fc2"])
def test_negative_control_a_perturbed_weight(name: str, where: str) -> None:
    model, pixels = clips.VISIONS[name](), clips.pictures(2)
    expected = clips.embed_pictures(model, pixels)
    graph = VitGraph(clips.Reference(model))
    for block in (graph.blocks[0], graph.blocks[-1]):
        weight = block.get_submodule(where).weight
        before = weight.clone()
        weight[[3, 4]] = before[[4, 3]]
        assert (graph(pixels, torch.tensor([0]))[:, 0] - expected).abs().max() > 1e-4
        weight.copy_(before)
    assert (graph(pixels, torch.tensor([0]))[:, 0] - expected).abs().max() <= 5e-6


@torch.no_grad()
def test_grey_pictures() -> None:
    """Of which the first convolution takes one channel."""
    model = clips.transformers_clip()
    grey = clips.pictures(2)[:, 0]
    reference = clips.Reference(model, replace(clips.RULE, colours="grey"))
    graph = VitGraph(reference)
    assert graph.patches.conv.weight.shape[1] == 1
    expected = clips.embed_pictures(model, grey[:, None].expand(-1, 3, -1, -1))
    assert (graph(grey, torch.tensor([0]))[:, 0] - expected).abs().max() <= 5e-6


def test_the_model_stays_as_it_is() -> None:
    for make in clips.VISIONS.values():
        model = make()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        VitGraph(clips.Reference(model))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: clips.open_clip_clip(pool_type="avg"), "pools 'avg'"),
        (lambda: clips.open_clip_clip(attentional_pool=True, attn_pooler_heads=4), "pools by attention"),
        (lambda: clips.open_clip_clip(qk_norm=True), "A layer is a CustomResidualAttentionBlock"),
        (
            lambda: clips.open_clip_clip(layers=(1, 1, 1, 1), width=16, head_width=16),
            "vision tower of a ModifiedResNet",
        ),
        (lambda: clips.timm_clip(global_pool="avg"), "pools 'avg' and normalizes after pooling"),
        (lambda: clips.timm_clip(reg_tokens=2), "has register tokens"),
        (lambda: clips.timm_clip(qk_norm=True), "A layer has a norm of queries and a norm of keys"),
        (lambda: nn.Linear(2, 2), "the vision tower of a Linear; there are for CLIPModel, CLIP, CustomTextCLIP"),
    ],
)
def test_other_towers_are_refused(make: Any, reason: str) -> None:
    with pytest.raises(GraphError, match=reason):
        vision_tower(make())
