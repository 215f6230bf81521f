"""What is measured with: texts of a file, JPEG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.errors import PeerError
from runtime.archive import find_items
from runtime.archive.items import TEXT_SUFFIXES
from runtime.errors import InputError
from runtime.files import Columns, Unusable
from runtime.files.replaceable import GENERATOR
from runtime.files.whole_file import whole_file
from runtime.text import Tokenizer

__all__ = ["cut", "read_texts", "sample", "write_jpegs"]


def read_texts(file: Path, column: str) -> list[str]:
    """The texts of a file that are not blank.

    Args:
        file: .txt (a text a line), .csv, .jsonl or .parquet.
        column: of a table.

    Raises:
        PeerError: the file cannot be read or holds no texts, or a row of it cannot be used.
        MissingExtraError: a .parquet file without pyarrow.
    """
    found = []
    try:
        stream = find_items([str(file)], [], Columns(text=column))
        if stream.part != "text":
            raise PeerError(f"{file} has the suffix '{file.suffix}'; {', '.join(TEXT_SUFFIXES)} are expected")
        for item in stream:
            if isinstance(item.value, Unusable):
                raise PeerError(f"{item.id}: {item.value.reason}")
            if not isinstance(item.value, str):
                kind = type(item.value).__name__
                raise PeerError(f"{item.id}: '{column}' is a {kind}, a string is expected")
            if item.value.strip():
                found.append(item.value)
    except InputError as error:
        raise PeerError(str(error)) from None
    if not found:
        raise PeerError(f"{file} holds no texts")
    return found


def sample(items: list[str], limit: int, seed: int) -> list[str]:
    """At most `limit` items in random order, so that their beginning is like the whole."""
    return [items[index] for index in np.random.default_rng(seed).permutation(len(items))[:limit]]


def cut(text: str, tokenizer: Tokenizer) -> str:
    """As much of the text's beginning, by words, as the model reads; by steps of a tenth."""
    while tokenizer.try_encode([text])[1]:
        words = text.split()
        text = " ".join(words[: len(words) * 9 // 10])
    return text


def write_jpegs(folder: Path, count: int, seed: int) -> list[str]:
    """Write JPEG files of 2,500 × 2,048 pixels, made from phantoms with noise, and return their paths.

    Raises:
        InputError: a file of that name is there that this program did not write.
    """
    from export.samples import chest_phantom

    rng = np.random.default_rng(seed)
    base = [Image.fromarray(chest_phantom(512, 625, seed + index)) for index in range(4)]
    paths = []
    for index in range(count):
        image = np.asarray(base[index % len(base)].resize((2500, 2048), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
        path = folder / f"{index:04}.jpg"
        with whole_file(path, replace=False) as partial:
            Image.fromarray(noisy).save(partial, "JPEG", quality=90, comment=GENERATOR)
        paths.append(str(path))
    return paths
