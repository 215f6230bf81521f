"""GLoRIA's and ConVIRT's graphs, before and after ONNX, against GLoRIA's own code and PyTorch's layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertModel

from export.families import ImageModel
from export.graphs import GraphSpec, export_graph
from export.graphs.resnet_heads import ResNetHeadsGraph
from export.graphs.text_rewrites import TextEmbeddingGraph
from export.reference.gloria import ConvirtImage, GloriaImage, aggregate_words, convirt_image, gloria_image, two_layers
from export.reference.text import TextReference, bert_config
from export.samples import chest_phantom
from runtime.bundle.parts import Preprocessing
from runtime.engines import PROVIDERS, SessionOptions
from tests.conftest import tiny_config
from tests.export.families.gloria_upstream import BertEncoder, ImageEncoder

BLOCKS, SIZE, LONGEST = (1, 1, 1, 1), 32, 97
GLORIA = Preprocessing("luminance", "longest by factor", 256, "area", 224, "even", (0.5,), (0.5,))
IMAGENET = Preprocessing(
    "luminance", "shortest", 224, "bilinear", 224, "even", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
)


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif value.is_floating_point() and value.ndim != 2:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
    return model.eval()


def pixels(rule: Preprocessing) -> torch.Tensor:
    phantoms = [chest_phantom(rule.crop, rule.crop, seed) for seed in range(2)]
    noise = np.random.default_rng(0).integers(0, 256, rule.shape, dtype=np.uint8)
    return torch.from_numpy(np.stack([*phantoms, noise]))


@pytest.fixture(scope="module")
def gloria() -> tuple[GloriaImage, ImageEncoder]:
    model, upstream = randomized(GloriaImage(BLOCKS, SIZE)), ImageEncoder(SIZE, BLOCKS).eval()
    upstream.load_state_dict(model.state_dict())  # the very names
    return model, upstream


def test_names_are_those_of_torchvision_s_resnet50() -> None:
    with torch.device("meta"):
        assert GloriaImage().state_dict().keys() == ImageEncoder().state_dict().keys()


def test_gloria_s_image_graph_equals_its_own_code(gloria: tuple[GloriaImage, ImageEncoder]) -> None:
    model, upstream = gloria
    given = pixels(GLORIA)
    channels = (given.float().div(255)[:, None].expand(-1, 3, -1, -1) - 0.5) / 0.5
    with torch.no_grad():
        image, local = upstream(channels)
        found, patches, norms = ResNetHeadsGraph(model, GLORIA)(given)
    assert local.shape == (3, SIZE, 19, 19)
    assert (found - nn.functional.normalize(image, dim=-1)).abs().max() < 1e-5
    assert (patches * norms[..., None] - local.permute(0, 2, 3, 1)).abs().max() < 1e-5 * local.abs().max()
    assert (patches.norm(dim=-1) - 1).abs().max() < 1e-6
    reference = gloria_image(model, ImageModel("", "", GLORIA, "resnet50-local", BLOCKS, 16, embedding_size=SIZE))
    image_embeds, patch_embeds = reference.forward(channels)
    assert (image_embeds - nn.functional.normalize(image, dim=-1)).abs().max() < 1e-6
    assert patch_embeds is not None
    assert (patch_embeds - nn.functional.normalize(local, dim=1).permute(0, 2, 3, 1)).abs().max() < 1e-6


@pytest.mark.parametrize("change", ["corners", "mean", "stage"])
def test_negative_controls_of_gloria_s_image(gloria: tuple[GloriaImage, ImageEncoder], change: str) -> None:
    model, _ = gloria
    given = pixels(GLORIA)
    exact = ResNetHeadsGraph(model, GLORIA)
    wrong = ResNetHeadsGraph(model, GLORIA)
    if change == "corners":
        rows = torch.eye(224)[None, None]
        wrong.enlarge = nn.functional.interpolate(rows, size=(299, 224), mode="bilinear", align_corners=False)[0, 0]
    elif change == "mean":
        wrong.offset = exact.offset + 2
    else:
        wrong.first[-1] = nn.Sequential(wrong.first[-1], nn.Threshold(0.1, 0))
    with torch.no_grad():
        assert (exact(given)[0] - wrong(given)[0]).abs().max() > 1e-4


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_engines_enlarge_as_torch_does(tmp_path: Path, gloria: tuple[GloriaImage, ImageEncoder], provider: str) -> None:
    model, upstream = gloria
    spec = GraphSpec(
        inputs={"pixel_values": ("batch", 224, 224)},
        outputs={
            "image_embeds": ("batch", SIZE),
            "patch_embeds": ("batch", 19, 19, SIZE),
            "patch_norms": ("batch", 19, 19),
        },
        limits={"batch": None},
    )
    module = ResNetHeadsGraph(model, GLORIA).eval().requires_grad_(False)
    info = export_graph(module, (torch.randint(0, 256, (2, 224, 224), dtype=torch.uint8),), spec, tmp_path / "a.onnx")
    assert "Resize" not in info.operators
    session = PROVIDERS[provider].open(tmp_path / "a.onnx", SessionOptions(threads=2, precision="fp32"))
    given = pixels(GLORIA)
    image_embeds, patches, norms = session.run(list(spec.outputs), {"pixel_values": given.numpy()})
    with torch.no_grad():
        image, local = upstream((given.float().div(255)[:, None].expand(-1, 3, -1, -1) - 0.5) / 0.5)
    assert np.abs(image_embeds - nn.functional.normalize(image, dim=-1).numpy()).max() < 1e-5
    unnormalized = local.permute(0, 2, 3, 1).numpy()
    assert np.abs(patches * norms[..., None] - unnormalized).max() < 1e-5 * np.abs(unnormalized).max()


def test_convirt_s_image_graph_equals_its_layers() -> None:
    model = randomized(ConvirtImage(BLOCKS, SIZE))
    given = pixels(IMAGENET)
    mean, std = (torch.tensor(each)[:, None, None] for each in (IMAGENET.mean, IMAGENET.std))
    channels = (given.float().div(255)[:, None].expand(-1, 3, -1, -1) - mean) / std
    trunk = nn.Sequential(*[each for name, each in model.model.named_children() if name not in ("avgpool", "fc")])
    first, _, second = model.projection
    with torch.no_grad():
        hidden = nn.functional.relu(trunk(channels).mean((2, 3)) @ first.weight.T + first.bias)
        expected = nn.functional.normalize(hidden @ second.weight.T + second.bias, dim=-1)
        (found,) = ResNetHeadsGraph(model, IMAGENET)(given)
        reference = convirt_image(model, ImageModel("", "", IMAGENET, "resnet50-mlp", BLOCKS, None)).forward(channels)
    assert (found - expected).abs().max() < 1e-5
    assert (reference[0] - expected).abs().max() < 1e-6
    assert reference[1] is None


def bert() -> BertModel:
    torch.manual_seed(0)
    model = BertModel(bert_config({**tiny_config(), "num_hidden_layers": 5, "initializer_range": 0.1})).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "bias" in name:
                value.normal_(std=0.1)
    return model


def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pieces, the first and last of each row [CLS] and [SEP], padded to 97."""
    generator = torch.Generator().manual_seed(rows)
    ids, mask = torch.zeros(rows, LONGEST, dtype=torch.int64), torch.zeros(rows, LONGEST, dtype=torch.int64)
    for row in range(rows):
        length = int(torch.randint(3, LONGEST + 1, (), generator=generator))
        ids[row, :length] = torch.randint(10, 1000, (length,), generator=generator)
        ids[row, 0], ids[row, length - 1], mask[row, :length] = 2, 3, 1
    return ids, mask


VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4} | {
    (f"##{index}" if index % 3 == 0 else f"word{index}"): index for index in range(5, 1000)
}


@pytest.mark.parametrize("width", [LONGEST, 40])
def test_gloria_s_text_graph_equals_its_own_code(width: int) -> None:
    model = bert()
    upstream = BertEncoder(model, VOCABULARY)
    reference = TextReference(model, "layers", longest=LONGEST)
    ids, mask = batch(3)
    ids[:, width - 1 :] = torch.where(mask[:, width - 1 :] > 0, 3, 0)  # in 40 tokens: cut, [SEP] kept
    ids[:, width:], mask[:, width:] = 0, 0
    with torch.no_grad():
        words, expected, sentences = upstream(ids, mask, torch.zeros_like(ids))
        text_embeds, unnormalized = TextEmbeddingGraph(reference)(ids[:, :width], mask[:, :width])
        embedded = reference.embed(ids[:, :width], mask[:, :width])
    scale = expected.abs().max()
    assert (unnormalized - expected).abs().max() < 1e-5 * scale
    assert (embedded - expected).abs().max() < 1e-5 * scale
    assert (text_embeds - nn.functional.normalize(expected, dim=-1)).abs().max() < 1e-5
    # Without what lies beyond the last four layers the embedding is another one.
    with torch.no_grad():
        less = TextEmbeddingGraph(TextReference(model, "mean", longest=LONGEST))(ids[:, :width], mask[:, :width])[0]
    assert (less - text_embeds).abs().max() > 1e-3
    states = model(ids, mask, output_hidden_states=True).hidden_states
    summed = torch.stack(states[-4:]).sum(0)
    names = {index: token for token, index in VOCABULARY.items()}
    for row in range(3):
        found, said = aggregate_words(summed[row].detach(), [names[int(each)] for each in ids[row]])
        assert said == sentences[row]
        assert (found - words[row].T).abs().max() < 1e-5 * words.abs().max()


@pytest.mark.parametrize(("pooling", "dense"), [("layers", False), ("max", True)])
def test_packed_rows_equal_texts_alone(pooling: str, dense: bool) -> None:
    head = two_layers(64, 24) if dense else None
    reference = TextReference(bert(), pooling, head, longest=LONGEST)
    graph = TextEmbeddingGraph(reference)
    first, second = torch.randint(5, 1000, (7,)), torch.randint(5, 1000, (12,))
    row = torch.cat([first, second, torch.zeros(3, dtype=torch.int64)])[None]
    positions = torch.cat([torch.arange(7), torch.arange(12), torch.arange(3)])[None]
    segments = torch.cat([torch.full((7,), 1), torch.full((12,), 2), torch.full((3,), 0)])[None]
    with torch.no_grad():
        _, packed = graph.packed(row, positions, segments, torch.tensor([[0, 7]]))
        alone = torch.cat([reference.embed(each[None], torch.ones_like(each[None])) for each in (first, second)])
    assert reference.size == (24 if dense else 64)
    assert (packed[0] - alone).abs().max() < 1e-5 * alone.abs().max()


def test_the_largest_values_are_of_tokens_alone() -> None:
    """ConVIRT: padding never counts, however long a row is."""
    model = bert()
    head = two_layers(64, 24)
    reference = TextReference(model, "max", head, longest=LONGEST)
    ids, mask = batch(4)
    with torch.no_grad():
        states = model(ids, mask).last_hidden_state
        largest = torch.stack([row[: int(kept.sum())].max(0).values for row, kept in zip(states, mask, strict=True)])
        expected = head[2](torch.relu(head[0](largest)))
        _, unnormalized = TextEmbeddingGraph(reference)(ids, mask)
    assert (unnormalized - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (reference.embed(ids, mask) - expected).abs().max() < 1e-5 * expected.abs().max()
