"""1/255, mean and std in the first convolution, in float64: what is wrong at a border cannot pass for rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from export.errors import GraphError
from export.families import FAMILIES
from export.graphs.image_rewrites import ImageEmbeddingGraph, PixelConvolution, fold_pixels
from export.reference import build_image_model, hi_ml_image
from runtime.bundle.parts import Preprocessing

SIDE = 32
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NORMALIZATIONS = {
    "none": ((0.0,), (1.0,)),
    "one for all": ((0.5307,), (0.2583,)),
    "std alone": ((0.0, 0.0, 0.0), (0.2, 0.3, 0.4)),
    "by channel": CLIP,
}
CONVOLUTIONS = {
    "patches": {"kernel_size": 8, "stride": 8, "bias": False},
    "patches with a bias": {"kernel_size": 8, "stride": 8, "bias": True},
    "padded": {"kernel_size": 7, "stride": 2, "padding": 3, "bias": False},
    "padded with a bias": {"kernel_size": 3, "stride": 2, "padding": 1, "bias": True},
}


def rule_of(colours: str, normalization: str) -> Preprocessing:
    mean, std = NORMALIZATIONS[normalization]
    return Preprocessing(colours, "squash", SIDE, "bicubic", SIDE, "down", mean, std)


def convolution(name: str, channels: int = 3) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(channels, 6, **CONVOLUTIONS[name]).double()


def pixels_of(rule: Preprocessing) -> torch.Tensor:
    """Bright at the borders."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(100, 256, (2, *rule.shape), dtype=torch.uint8, generator=generator)


def expected(conv: nn.Conv2d, pixels: torch.Tensor, rule: Preprocessing) -> torch.Tensor:
    """What the model's own convolution makes of the normalized pixels."""
    values = pixels.double() / 255
    values = values[:, None].expand(-1, conv.in_channels, -1, -1) if values.ndim == 3 else values
    mean, std = (torch.tensor(each, dtype=torch.float64).reshape(-1, 1, 1) for each in (rule.mean, rule.std))
    return conv((values - mean) / std)


@pytest.mark.parametrize("colours", ["grey", "rgb"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
@torch.no_grad()
def test_the_folded_convolution_is_exact_up_to_the_borders(name: str, normalization: str, colours: str) -> None:
    rule, conv = rule_of(colours, normalization), convolution(name)
    before = {key: value.clone() for key, value in conv.state_dict().items()}
    folded, offset = fold_pixels(conv, rule)
    pixels = pixels_of(rule)
    assert (PixelConvolution(folded, offset)(pixels) - expected(conv, pixels, rule)).abs().max() < 1e-12
    subtracts = "padded" in name and normalization in ("one for all", "by channel")
    assert (offset is not None) == subtracts
    one = colours == "grey" and not (subtracts and normalization == "by channel")
    assert folded.in_channels == folded.weight.shape[1] == (1 if one else 3)
    assert all(torch.equal(value, before[key]) for key, value in conv.state_dict().items()), "the model stays as it is"


@torch.no_grad()
def test_a_model_of_one_channel() -> None:
    rule = replace(rule_of("grey", "one for all"), mean=(0.5863,), std=(0.2795,))
    for name in CONVOLUTIONS:
        conv = convolution(name, channels=1)
        pixels = pixels_of(rule)
        found = PixelConvolution(*fold_pixels(conv, rule))(pixels)
        assert (found - expected(conv, pixels, rule)).abs().max() < 1e-12


@torch.no_grad()
def test_negative_control_a_mean_folded_into_a_padded_convolution_is_wrong_at_the_border() -> None:
    rule, conv = rule_of("rgb", "by channel"), convolution("padded")
    unpadded = nn.Conv2d(3, 6, kernel_size=7, stride=2, bias=False).double()
    unpadded.weight.copy_(conv.weight)
    naive, offset = fold_pixels(unpadded, rule)
    assert offset is None
    naive.padding = conv.padding
    pixels = pixels_of(rule)
    difference = (PixelConvolution(naive, None)(pixels) - expected(conv, pixels, rule)).abs()
    assert difference[..., 2:-2, 2:-2].max() < 1e-12
    assert difference.max() > 0.1


@pytest.mark.parametrize("shape", [{"in_channels": 4}, {"in_channels": 3, "groups": 3}])
def test_other_convolutions_are_refused(shape: dict[str, int]) -> None:
    with pytest.raises(GraphError, match=r"1 or 3 in one group are expected"):
        fold_pixels(nn.Conv2d(**shape, out_channels=6, kernel_size=3), rule_of("rgb", "none"))


@pytest.mark.parametrize("normalization", ["none", "by channel"])
@pytest.mark.parametrize("colours", ["grey", "rgb"])
@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_residual_networks_of_either_block_in_any_colours(architecture: str, colours: str, normalization: str) -> None:
    rule = replace(rule_of(colours, normalization), crop=64)
    torch.manual_seed(4)
    image = replace(FAMILIES["biovil"].image, architecture=architecture, blocks=(1, 2, 1, 1), preprocessing=rule)
    model = build_image_model(image).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    pixels = pixels_of(replace(rule, crop=64))
    with torch.no_grad():
        found = ImageEmbeddingGraph(model, rule)(pixels)
    for one, other in zip(
        found, hi_ml_image(model, replace(image, preprocessing=rule)).embed(pixels.numpy()), strict=True
    ):
        assert one.shape == other.shape
        assert (one - torch.from_numpy(other)).abs().max() < 1e-5
    assert found[1].shape == (2, 2, 2, 128)


def test_a_projector_of_other_layers_is_refused() -> None:
    rule = rule_of("grey", "none")
    image = replace(FAMILIES["biovil"].image, blocks=(1, 1, 1, 1), preprocessing=rule)
    model = build_image_model(image)
    model.projector.model.append(nn.Sigmoid())
    with pytest.raises(GraphError, match="has a Sigmoid"):
        ImageEmbeddingGraph(model, rule)
