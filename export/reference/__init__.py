"""The PyTorch models as upstream builds them; nothing is rewritten here.

Imports `families`.
"""

from export.reference.image import build_image_model, embed_pixels, image_embeddings
from export.reference.text import TextReference, bert_config, untrained_text

__all__ = [
    "TextReference",
    "bert_config",
    "build_image_model",
    "embed_pixels",
    "image_embeddings",
    "untrained_text",
]
