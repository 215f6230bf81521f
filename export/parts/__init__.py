"""The parts of a bundle, each from model to proven artifacts.

Imports every other wing but `checkpoints`.
"""

from export.parts.image import export_image
from export.parts.text import export_text

__all__ = ["export_image", "export_text"]
