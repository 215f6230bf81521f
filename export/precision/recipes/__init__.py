"""int8 recipes from cheap to dear, by the architecture of a tower."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from export.precision.recipes.convolutions import convolution_artifacts
from export.precision.recipes.vit import vit_artifacts
from runtime.bundle import Artifact

__all__ = ["IMAGE_RECIPES"]

# Architecture of `runtime.bundle.parts.ImagePart` → what makes its int8 artifacts.
IMAGE_RECIPES: Mapping[str, Callable[..., list[Artifact]]] = MappingProxyType(
    {
        **dict.fromkeys(("resnet50", "resnet50-local", "resnet50-mlp", "resnet50+transformer"), convolution_artifacts),
        "vit": vit_artifacts,
    }
)
