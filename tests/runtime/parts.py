"""Parts of a manifest as tests want them: CXR-BERT's and BioViL's axes with other sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runtime.bundle.parts import REFUSED, STRIP_PUNCTUATION, ImagePart, Preprocessing, TextPart, Tokenization

_RULES = Tokenization("wordpiece", 512, REFUSED, STRIP_PUNCTUATION, {}, None)
_TEXT = TextPart(
    architecture="bert",
    attention="bidirectional",
    tokenization=_RULES,
    pooling="cls",
    projection="cxr-bert",
    masked_words=True,
    embedding_size=128,
    artifacts=(),
)
_PIXELS = Preprocessing("grey", "shortest", 512, "bilinear", 480, "even", (0.0,), (1.0,))
_IMAGE = ImagePart("resnet50", _PIXELS, images=1, grid=15, embedding_size=128, artifacts=())


def grey_rule(size: int, crop: int, **changed: Any) -> Preprocessing:
    """BioViL's rules with other sizes."""
    return replace(_PIXELS, size=size, crop=crop, **changed)


def tokenization(**changed: Any) -> Tokenization:
    return replace(_RULES, **changed)


def text_part(**changed: Any) -> TextPart:
    return replace(_TEXT, **changed)


def image_part(size: int, crop: int, grid: int | None, **changed: Any) -> ImagePart:
    return replace(_IMAGE, preprocessing=grey_rule(size, crop), grid=grid, **changed)
