"""Compare what graphs are fed with the reference's: token ids and pixels, which must be identical."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from export.families import ImageModel
from export.samples import SENTENCES, chest_phantom
from runtime.bundle import ParityRecord
from runtime.image.images import load_pixels
from runtime.text import Tokenizer

__all__ = ["pixel_parity", "token_parity"]

_IDENTICAL = {"differing": 0.0}
_PIXEL_SIZES = ((512, 512), (480, 480), (513, 769), (1031, 640), (300, 411), (97, 1400), (2048, 1501))


def token_parity(tokenizer: Tokenizer, checkpoint: Path) -> ParityRecord:
    """Compare the bundle's tokenizer with transformers' on the checkpoint's own files.

    Where there is a vocab.txt that is BertTokenizer, where there is a tokenizer.json the class that reads that alone.
    The texts are `SENTENCES`, and some with the tokens that were added for fine-tuning.

    Returns:
        Figure: differing, the number of sentences whose ids differ.
    """
    from transformers import BertTokenizer, PreTrainedTokenizerFast
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns about the class name in the hub's own file
    references = {}
    try:
        if (checkpoint / "vocab.txt").is_file():
            references["BertTokenizer"] = BertTokenizer.from_pretrained(str(checkpoint))
        if (checkpoint / "tokenizer.json").is_file():
            whole = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"))
            references["PreTrainedTokenizerFast"] = whole
    finally:
        logging.set_verbosity(level)
    added = sorted(token for each in references.values() for token in each.get_added_vocab())
    sentences = [text.rstrip("!?.") for text in (*SENTENCES, *(f"No {token}, {token}s." for token in added))]
    encoded, faults = tokenizer.try_encode(sentences)
    refused = {fault.index for fault in faults}  # special tokens, which the runtime does not take in texts
    differing = {
        index
        for reference in references.values()
        for index, ids in enumerate(reference(sentences)["input_ids"])
        if index not in refused and encoded[index] != list(ids)
    }
    return ParityRecord(
        "none",
        f"transformers {' and '.join(references)}",
        f"token ids of {len(sentences)} sentences",
        {"differing": float(len(differing))},
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
