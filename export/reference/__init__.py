"""The PyTorch models as upstream builds them; nothing is rewritten here.

Imports `families`.
"""

from export.reference.image import ImageReference, build_image_model, hi_ml_image, image_embeddings
from export.reference.text import TextReference, bert_config, untrained_text

__all__ = [
    "ImageReference",
    "TextReference",
    "bert_config",
    "build_image_model",
    "hi_ml_image",
    "image_embeddings",
    "untrained_text",
]
