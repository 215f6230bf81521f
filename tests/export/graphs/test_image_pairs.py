"""A current image with a previous one and alone: the graphs against hi-ml's own model, in every precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from export.errors import GraphError
from export.families import FAMILIES
from export.graphs import GraphSpec, export_graph
from export.graphs.image_pairs import PreviousImageGraph, current_image_graph
from export.graphs.pair_faces import PAIR_INPUTS, export_comparison, pair_spec, share_with_single, write_pair_graph
from export.graphs.sharing import data_files
from export.precision.half import convert_half
from export.precision.int8_image import ImageQuantizer
from export.reference.image_pairs import build_pair_model
from export.samples import chest_phantom
from runtime.engines import PROVIDERS, SessionOptions

CROP, GRID = 448, 14
IMAGE = replace(FAMILIES["biovil-t"].image, blocks=(1, 1, 1, 1))
RULE = IMAGE.preprocessing
SINGLE = GraphSpec(
    inputs={"pixel_values": ("batch", CROP, CROP)},
    outputs={"image_embeds": ("batch", 128), "patch_embeds": ("batch", GRID, GRID, 128)},
    limits={"batch": None},
)
PAIRED = pair_spec(SINGLE)
OUTPUTS = list(SINGLE.outputs)

Embeds = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """hi-ml's model and a folder with its graphs."""

    model: nn.Module
    folder: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder, model = tmp_path_factory.mktemp("pairs"), random_model()
    graph = current_image_graph(model, RULE).eval().requires_grad_(False)
    source = folder / "model.onnx"
    export_graph(graph, (torch.zeros(2, CROP, CROP, dtype=torch.uint8),), SINGLE, source)
    comparison = export_comparison(model, GRID, folder)
    write_pair_graph(source, folder / "pair.onnx", comparison, PAIRED)
    quantizer = ImageQuantizer(source, SINGLE, films(6, 50))
    for name, symmetric in (("int8", False), ("int8_tensorrt", True)):
        quantizer.write(folder / f"model_{name}.onnx", symmetric=symmetric)
        write_pair_graph(folder / f"model_{name}.onnx", folder / f"pair_{name}.onnx", comparison, PAIRED)
    convert_half(source, folder / "model_fp16.onnx", SINGLE, "fp16")
    convert_half(folder / "pair.onnx", folder / "pair_fp16.onnx", PAIRED, "fp16")
    share_with_single(folder / "pair_fp16.onnx", folder / "model_fp16.onnx", PAIRED)
    return Exported(model, folder)


def random_model() -> nn.Module:
    torch.manual_seed(3)
    model = build_pair_model(IMAGE).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 1 or "_em" in name:  # norms, biases and embeddings begin at the same values
                tensor.add_(0.2 * torch.randn_like(tensor))
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.5, 1.5)
    return model


def films(count: int, seed: int) -> NDArray[np.uint8]:
    return np.stack([chest_phantom(CROP, CROP, seed + index) for index in range(count)])


def reference(model: nn.Module, current: NDArray[np.uint8], previous: NDArray[np.uint8] | None = None) -> Embeds:
    """hi-ml's `MultiImageModel`, normalized as its inference engine does."""
    channels = [
        None if each is None else torch.from_numpy(each)[:, None].float().div(255).expand(-1, 3, -1, -1)
        for each in (current, previous)
    ]
    with torch.inference_mode():
        found = model(*channels)
    patches = F.normalize(found.projected_patch_embeddings, dim=1).permute(0, 2, 3, 1)
    return F.normalize(found.projected_global_embedding, dim=-1).numpy(), patches.numpy()


def computed(
    path: Path, current: NDArray[np.uint8], previous: NDArray[np.uint8] | None = None, engine: str = "cpu"
) -> Embeds:
    """By the graph."""
    precision = path.stem.split("_")[1] if "_" in path.stem else "fp32"
    session = PROVIDERS[engine].open(path, SessionOptions(threads=2, precision=precision))
    feeds = {"pixel_values": current} | ({} if previous is None else {"previous_pixel_values": previous})
    image_embeds, patch_embeds = session.run(OUTPUTS, feeds)
    return image_embeds, patch_embeds


def furthest(found: Embeds, expected: Embeds) -> float:
    return max(float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("engine", ["cpu", "openvino"])
def test_both_graphs_are_hi_mls_model_in_any_batch(exported: Exported, engine: str) -> None:
    for count in (1, 2, 7):
        current, previous = films(count, 0), films(count, 100)
        alone, compared = reference(exported.model, current), reference(exported.model, current, previous)
        assert furthest(computed(exported.folder / "model.onnx", current, None, engine), alone) < 1e-5
        assert furthest(computed(exported.folder / "pair.onnx", current, previous, engine), compared) < 1e-5
        assert furthest(alone, compared) > 0.02, "a previous image changes the embeddings"
        assert furthest(reference(exported.model, previous, current), compared) > 1e-3, "and which one is previous"


def without_types(model: nn.Module) -> None:
    model.encoder.vit_pooler.type_embed.mul_(0)


def without_a_block(model: nn.Module) -> None:
    del model.encoder.vit_pooler.blocks[2]


def without_what_stands_for_a_missing_image(model: nn.Module) -> None:
    model.encoder.missing_previous_emb.mul_(0)


@pytest.mark.parametrize("damage", [without_types, without_a_block, without_what_stands_for_a_missing_image])
def test_negative_control_a_damaged_model_is_another(exported: Exported, damage: Callable[[nn.Module], None]) -> None:
    damaged, current, previous = random_model(), films(1, 0), films(1, 100)
    with torch.no_grad():
        damage(damaged)
    alone = furthest(computed(exported.folder / "model.onnx", current), reference(damaged, current))
    compared = furthest(
        computed(exported.folder / "pair.onnx", current, previous), reference(damaged, current, previous)
    )
    of_missing = damage is without_what_stands_for_a_missing_image
    assert (alone > 1e-3, compared > 1e-4) == (of_missing, not of_missing)


@torch.no_grad()
def test_negative_control_positions_count_for_values_too(exported: Exported) -> None:
    """Upstream's docstring says queries and keys; its code adds them for values as well."""
    graph = PreviousImageGraph(exported.model).eval()
    patches = torch.randn(2, 1, 256, GRID, GRID, generator=torch.Generator().manual_seed(0))
    expected = exported.model.encoder.vit_pooler(patches[0], patches[1]).flatten(2).transpose(1, 2)
    assert (graph(patches)[1].flatten(2).transpose(1, 2) - graph.projection(expected)).abs().max() < 1e-4

    def otherwise(block: nn.Module) -> Callable[[torch.Tensor, torch.Tensor, int | None], torch.Tensor]:
        def forward(states: torch.Tensor, positions: torch.Tensor, count: int | None = None) -> torch.Tensor:
            normed = block.norm1(states)
            query, key, value = (
                layer(given).unflatten(-1, (8, -1)).transpose(1, 2)
                for layer, given in (
                    (block.attention.query, normed + positions),
                    (block.attention.key, normed + positions),
                    (block.attention.value, normed),
                )
            )
            mixed = (torch.softmax(query @ key.mT, dim=-1) @ value).transpose(1, 2).flatten(2)
            states = states + block.output(mixed)
            return (states + block.fc2(block.activation(block.fc1(block.norm2(states)))))[:, :count]

        return forward

    for block in graph.blocks:
        block.forward = otherwise(block)
    assert (graph(patches)[1].flatten(2).transpose(1, 2) - graph.projection(expected)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("name", "least"), [("fp16", 0.99999), ("int8", 0.999), ("int8_tensorrt", 0.999)], ids=["fp16", "int8", "tensorrt"]
)
def test_lower_precisions_have_both_graphs(exported: Exported, name: str, least: float) -> None:
    current, previous = films(2, 0), films(2, 100)
    for face, before in (("model", None), ("pair", previous)):
        found = computed(exported.folder / f"{face}_{name}.onnx", current, before)
        expected = reference(exported.model, current, before)
        assert (found[0] * expected[0]).sum(-1).min() > least, face
        assert furthest(found, expected) > 1e-5, "a lower precision"


def test_weights_are_read_from_the_graph_of_single_images(exported: Exported) -> None:
    folder = exported.folder
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    for name in ("", "_int8", "_int8_tensorrt"):
        model = onnx.load(folder / f"pair{name}.onnx", load_external_data=False)
        assert set(data_files(model)) == {f"model{name}.onnx_data", "pair.onnx_data"}
        assert f"pair{name}.onnx_data" not in sizes or not name
    half = onnx.load(folder / "pair_fp16.onnx", load_external_data=False)
    assert set(data_files(half)) == {"model_fp16.onnx_data", "pair_fp16.onnx_data"}
    parameters = sum(each.numel() for each in PreviousImageGraph(exported.model).parameters())
    assert sizes["pair.onnx_data"] == pytest.approx(4 * parameters, rel=0.02)
    assert sizes["pair_fp16.onnx_data"] == pytest.approx(2 * parameters, rel=0.05)


def test_other_graphs_and_projectors_are_refused(exported: Exported, tmp_path: Path) -> None:
    model = random_model()
    model.projector.model[0] = nn.Conv2d(256, 128, 1, bias=False)
    with pytest.raises(GraphError, match="a 1×1 convolution of 512 channels"):
        current_image_graph(model, RULE)
    with pytest.raises(GraphError, match="is not valid ONNX"):
        write_pair_graph(
            exported.folder / "model.onnx",
            exported.folder / "refused.onnx",
            export_comparison(exported.model, GRID, tmp_path),
            replace(PAIRED, inputs=dict.fromkeys(PAIR_INPUTS, ("batch", 3, CROP, CROP))),
        )
