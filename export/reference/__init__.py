"""The PyTorch models as upstream builds them; nothing is rewritten here.

Imports `families`.
"""

from export.reference.clip import (
    CausalReference,
    open_clip_references,
    transformers_references,
    untrained_open_clip,
    untrained_transformers_clip,
)
from export.reference.image import ImageReference, build_image_model, hi_ml_image, image_embeddings
from export.reference.text import TextReference, bert_config, untrained_text

__all__ = [
    "AnyText",
    "CausalReference",
    "ImageReference",
    "TextReference",
    "bert_config",
    "build_image_model",
    "hi_ml_image",
    "image_embeddings",
    "open_clip_references",
    "transformers_references",
    "untrained_open_clip",
    "untrained_text",
    "untrained_transformers_clip",
]

# A text model of either kind.
AnyText = TextReference | CausalReference
