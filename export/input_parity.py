"""Compare what graphs are fed with the reference's: token ids and pixels, which must be identical."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from export.families import ImageModel
from export.phantom import chest_phantom
from export.sentences import SENTENCES
from runtime.images import load_pixels
from runtime.manifest import ParityRecord
from runtime.tokenization import Tokenizer

__all__ = ["pixel_parity", "token_parity"]

_IDENTICAL = {"differing": 0.0}
_PIXEL_SIZES = ((512, 512), (480, 480), (513, 769), (1031, 640), (300, 411), (97, 1400), (2048, 1501))


def token_parity(tokenizer: Tokenizer, checkpoint: Path) -> ParityRecord:
    """Compare the bundle's tokenizer with transformers' on the checkpoint's own files.

    Returns:
        Figure: differing, the number of sentences whose ids differ.
    """
    from transformers import BertTokenizer
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns about the class name in the hub's own file
    try:
        reference = BertTokenizer.from_pretrained(str(checkpoint))
    finally:
        logging.set_verbosity(level)
    encoded = tokenizer.encode(SENTENCES)
    expected = [reference(text.rstrip("!?."))["input_ids"] for text in SENTENCES]
    differing = sum(found != list(ids) for found, ids in zip(encoded, expected, strict=True))
    return ParityRecord(
        "none",
        "transformers BertTokenizer",
        f"token ids of {len(SENTENCES)} sentences",
        {"differing": float(differing)},
        _IDENTICAL,
    )


def pixel_parity(image: ImageModel) -> ParityRecord:
    """Compare the runtime's pixels with torchvision's transforms, on generated 8- and 16-bit images of odd sizes.

    Returns:
        Figure: differing, the number of images of which any byte differs.
    """
    transform = Compose([Resize(image.resize), CenterCrop(image.crop)])
    differing = 0
    arrays = [*_phantoms(), *(array.astype(np.uint16) * 97 + 1000 for array in _phantoms())]
    for array in arrays:
        stretched = array.astype(float) - array.min()
        stretched = (stretched / stretched.max() * 255).astype(np.uint8)
        expected = np.asarray(transform(Image.fromarray(stretched).convert("L")))
        loaded, _ = load_pixels([array], image.resize, image.crop)
        differing += not np.array_equal(loaded[0].pixels, expected)
    return ParityRecord(
        "none",
        "torchvision Resize and CenterCrop",
        f"pixels of {len(arrays)} phantoms of 8 and 16 bit, {len(_PIXEL_SIZES)} sizes",
        {"differing": float(differing)},
        _IDENTICAL,
    )


@functools.cache
def _phantoms() -> tuple[NDArray[np.uint8], ...]:
    """Drawn once: that takes many times as long as the comparison."""
    return tuple(chest_phantom(height, width, index) for index, (height, width) in enumerate(_PIXEL_SIZES))
