"""The parts of a bundle as the manifest has them."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.bundle.artifacts import Artifact

__all__ = ["ImagePart", "TextPart"]


@dataclass(frozen=True)
class TextPart:
    """The text encoder.

    Attributes:
        max_length: longest input in tokens, [CLS] and [SEP] included.
        embedding_size: length of an embedding.
        artifacts: its graphs.
        embedding: what an embedding is made of: "projected [CLS]", "[CLS]" or "mean of all tokens" (of the last layer).
    """

    max_length: int
    embedding_size: int
    artifacts: tuple[Artifact, ...]
    embedding: str = "projected [CLS]"


@dataclass(frozen=True)
class ImagePart:
    """The image encoder: shorter side after resizing and side of the centre crop in pixels, patches per side."""

    resize: int
    crop: int
    grid: int
    embedding_size: int
    artifacts: tuple[Artifact, ...]
