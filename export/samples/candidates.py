"""Files, folders and built-in sets → texts and images that could calibrate, one after the other in a seeded order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from export.errors import CalibrationError
from export.samples.films import varied_films
from export.samples.report_sentences import report_texts
from runtime.archive import collect_items
from runtime.archive.items import TEXT_SUFFIXES
from runtime.bundle.parts import Preprocessing
from runtime.errors import Fault, InputError
from runtime.files.folders import describe_passed_over, search_folder
from runtime.files.formats import SUPPORTED_FORMATS
from runtime.image.given_images import ImageLike
from runtime.image.images import load_pixels
from runtime.text import Tokenizer

__all__ = [
    "Candidate",
    "built_in_images",
    "built_in_texts",
    "content_of",
    "encode_usable",
    "files_of_folder",
    "images_of_folder",
    "texts_of_file",
]

_CHUNK = 64
_NO_WORDS = 2  # tokens: [CLS] and [SEP]

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Candidate(Generic[Item]):
    """An item that the model takes.

    Attributes:
        item: token ids, or pixels.
        content: what its digest is of: its text's length in bytes (8 bytes, big-endian) and UTF-8 bytes, or its pixels.
        key: what repeats of it have in common: token ids, or the digest of the pixels.
    """

    item: Item
    content: bytes | memoryview
    key: Hashable


def texts_of_file(source: Path, column: str, tokenizer: Tokenizer, seed: int) -> Iterator[Candidate[list[int]] | Fault]:
    """Shuffle the texts of a .txt, .csv, .jsonl or .parquet file; they are tokenized as they are asked for.

    Raises:
        CalibrationError: at once, if the file cannot be read.
        MissingExtraError: a .parquet file without pyarrow.
    """
    expected = f"A file {' / '.join(TEXT_SUFFIXES)} with a text a line or in the column '{column}' is expected"
    if problem := _problem(source, Path.is_file, "file"):
        raise CalibrationError(f"{source}: {problem}. {expected}.")
    if source.suffix.lower() not in TEXT_SUFFIXES:
        raise CalibrationError(f"{source}: is not known to hold texts. {expected}.")
    unusable: list[Fault] = []
    try:
        items = collect_items([str(source)], [], column, None, unusable.append)
    except InputError as error:
        raise CalibrationError(f"{source}: {error.faults[0].reason}. {expected}.") from None
    named = ((items.ids[index], items.values[index]) for index in _order(len(items.ids), seed))
    return chain(unusable, _text_candidates(named, tokenizer))


def images_of_folder(
    source: Path, rule: Preprocessing, seed: int, note: Callable[[str], None]
) -> tuple[int, Iterator[Candidate[NDArray[np.uint8]] | Fault]]:
    """Shuffle the images of a folder and its subfolders; they are read as they are asked for.

    Args:
        source: the folder, see `search_folder`.
        rule: see `load_pixels`.
        seed: of the order.
        note: takes what is passed over.

    Returns:
        The number of files, and the images.

    Raises:
        CalibrationError: at once, if there is no such folder or no image in it.
        MissingExtraError: when it is read, a file that needs an optional package. Were it skipped, the choice would
            depend on the machine.
    """
    files = files_of_folder(source, note)
    return len(files), _image_candidates((files[index] for index in _order(len(files), seed)), rule)


def files_of_folder(source: Path, note: Callable[[str], None]) -> list[Path]:
    """The images of a folder and its subfolders, in an order that does not depend on where it lies.

    Args:
        source: the folder, see `search_folder`.
        note: takes what is passed over.

    Raises:
        CalibrationError: there is no such folder or no image in it.
    """
    expected = f"A folder with {SUPPORTED_FORMATS} files is expected"
    if problem := _problem(source, Path.is_dir, "folder"):
        raise CalibrationError(f"{source}: {problem}. {expected}.")
    try:
        found = search_folder(source)
    except OSError as error:
        raise CalibrationError(f"{source}: cannot be read ({error.strerror}). {expected}.") from None
    beside = describe_passed_over(found.passed_over)
    if not found.images:
        raise CalibrationError(f"{source}: holds no images{beside and f' ({beside})'}. {expected}.")
    if beside:
        note(f"{source}: {beside}.")
    return sorted(map(Path, found.images), key=lambda file: file.relative_to(source).parts)


def built_in_texts(tokenizer: Tokenizer, seed: int, limit: int) -> Iterator[Candidate[list[int]] | Fault]:
    """Make up to `limit` radiology-style texts, some of which repeat."""
    named = (("built-in text", text) for text in report_texts(seed))
    return _text_candidates(islice(named, limit), tokenizer)


def built_in_images(rule: Preprocessing, seed: int, limit: int) -> Iterator[Candidate[NDArray[np.uint8]] | Fault]:
    """Draw up to `limit` synthetic radiographs."""
    return _image_candidates(islice(varied_films(rule.size, seed), limit), rule)


def _problem(source: Path, is_kind: Callable[[Path], bool], kind: str) -> str | None:
    try:
        if is_kind(source):
            return None
        return f"is not a {kind}" if source.exists() else f"there is no such {kind}"
    except OSError as error:  # a name that is too long, a folder that may not be searched
        return f"cannot be read ({error.strerror})"


def _order(length: int, seed: int) -> list[int]:
    order: list[int] = np.random.default_rng(seed).permutation(length).tolist()
    return order


def _text_candidates(named: Iterable[tuple[str, Any]], tokenizer: Tokenizer) -> Iterator[Candidate[list[int]] | Fault]:
    rows = iter(named)
    while chunk := list(islice(rows, _CHUNK)):
        encoded = encode_usable([text for _, text in chunk], tokenizer)
        for index, ((name, text), ids) in enumerate(zip(chunk, encoded, strict=True)):
            if isinstance(ids, str):
                yield Fault(index, name, ids)
            elif len(ids) == _NO_WORDS:
                yield Fault(index, name, "holds no words")
            else:
                yield Candidate(ids, content_of(text), tuple(ids))


def content_of(text: str) -> bytes:
    """What the digest of a text is of: its length in bytes (8 bytes, big-endian) and UTF-8 bytes."""
    content = text.encode("utf-8")
    return len(content).to_bytes(8, "big") + content


def encode_usable(texts: Sequence[Any], tokenizer: Tokenizer) -> list[list[int] | str]:
    """Token ids of each text, or the reason why there are none."""
    try:
        return list(tokenizer.encode(texts))
    except InputError as error:  # which names all bad texts of the call
        reasons = {fault.index: fault.reason for fault in error.faults}
    good = [text for index, text in enumerate(texts) if index not in reasons]
    ids = iter(tokenizer.encode(good) if good else [])
    return [reasons[index] if index in reasons else next(ids) for index in range(len(texts))]


def _image_candidates(
    images: Iterable[ImageLike], rule: Preprocessing
) -> Iterator[Candidate[NDArray[np.uint8]] | Fault]:
    for image in images:
        loaded, faults = load_pixels([image], rule)
        yield from faults
        for pixels in (np.ascontiguousarray(each.pixels) for each in loaded):
            yield Candidate(pixels, pixels.data, hashlib.sha256(pixels.data).digest())
