"""Texts and images to export with: sentences, phantoms, varied films, and calibration sets.

Imports `errors` and `runtime`.
"""

from export.samples.calibration import CalibrationData, ImageData, TextData, image_data, text_data
from export.samples.phantom import chest_phantom
from export.samples.sentences import SENTENCES, TRIPLETS

__all__ = [
    "SENTENCES",
    "TRIPLETS",
    "CalibrationData",
    "ImageData",
    "TextData",
    "chest_phantom",
    "image_data",
    "text_data",
]
