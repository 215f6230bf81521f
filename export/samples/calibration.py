"""Texts and images to calibrate quantizers with, and others to judge the result by.

Both parts come of one seeded order without repeats, so that no item that calibrated also judges. Only exact repeats are
found: two reports of one patient may end up on either side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from export.errors import CalibrationError
from export.samples.candidates import Candidate, built_in_images, built_in_texts, images_of_folder, texts_of_file
from export.samples.pairs import Pair, column_pairs, halves, paired_texts
from runtime.bundle.manifest import CalibrationSet
from runtime.bundle.parts import Preprocessing
from runtime.errors import Fault
from runtime.text import Tokenizer

__all__ = [
    "IMAGE_HELD_OUT",
    "IMAGE_ITEMS",
    "LEAST_IMAGES",
    "LEAST_TEXTS",
    "TEXT_HELD_OUT",
    "TEXT_ITEMS",
    "CalibrationData",
    "image_data",
    "listed",
    "text_data",
]

TEXT_ITEMS = 300
TEXT_HELD_OUT = 300
IMAGE_ITEMS = 96
IMAGE_HELD_OUT = 64
# To calibrate with and to judge by; with fewer, ranges and figures would be accidents.
LEAST_TEXTS = (32, 16)
LEAST_IMAGES = (16, 8)

# Built-in candidates per item wanted: some repeat, and with a small vocabulary some have too many tokens.
_CANDIDATES = 10
_NAMED_FAULTS = 5

Items = TypeVar("Items")
Item = TypeVar("Item")
Note: TypeAlias = Callable[[str], None]
Progress: TypeAlias = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class CalibrationData(Generic[Items]):
    """What to calibrate with and what to judge by.

    Attributes:
        calibration: of texts list[list[int]], token ids as `Tokenizer.encode` gives them; of images uint8
            (N, crop, crop), ready for the graph.
        held_out: the same of other items.
        record: what the manifest says of both. The digests are sha256 over the items' contents in order: of a text the
            number of its UTF-8 bytes (8 bytes, big-endian) and the bytes, of an image the prepared pixels.
        pairs: of held-out texts: token ids of a text and of the one that it is to find.
    """

    calibration: Items
    held_out: Items
    record: CalibrationSet
    pairs: Sequence[Pair] = ()


TextData = CalibrationData[list[list[int]]]
ImageData = CalibrationData[NDArray[np.uint8]]


@dataclass(frozen=True)
class _Kind:
    what: str
    source: str
    option: str
    least: tuple[int, int]


_TEXTS = _Kind("texts", "file", "--calibration-text FILE", LEAST_TEXTS)
_IMAGES = _Kind("images", "folder", "--calibration-images DIR", LEAST_IMAGES)


@dataclass(frozen=True)
class _Found(Generic[Item]):
    usable: list[Candidate[Item]]
    faults: list[Fault]
    repeats: int


def text_data(
    source: Path | None,
    tokenizer: Tokenizer,
    *,
    column: str = "text",
    paired: str | None = None,
    count: int = TEXT_ITEMS,
    held_out: int = TEXT_HELD_OUT,
    seed: int = 0,
    note: Note,
) -> TextData:
    """Choose texts from a file, or make them.

    Texts that the model cannot take (no words, too many tokens, special tokens) are left out, named and counted; texts
    with the same tokens count once. Only as many are tokenized as are needed.

    Args:
        source: .txt (a text a line), .csv, .jsonl or .parquet; None for built-in radiology-style texts.
        tokenizer: that of the model.
        column: the text column of .csv, .jsonl and .parquet files.
        paired: the column of what each text is to find, such as the impression of findings; None takes the second half
            of each text for its first.
        count: number to calibrate with, at least 32. A source with too few is divided in the same proportion.
        held_out: number to judge by, at least 16.
        seed: of the order, or of the built-in texts; the same seed and texts give the same result.
        note: takes remarks for the user.

    Raises:
        CalibrationError: the file is missing, of another kind, unreadable, without the column, or has fewer than 48
            usable, distinct texts; or too few were asked for.
        MissingExtraError: a .parquet file without pyarrow.
    """
    _check_numbers(_TEXTS, count, held_out)
    wanted = count + held_out
    if source is None:
        candidates = built_in_texts(tokenizer, seed, _CANDIDATES * wanted)
    else:
        candidates = texts_of_file(source, column, tokenizer, seed)
    found = _take(candidates, wanted)
    first = _split(_TEXTS, source, found, count, held_out, note)
    ids = [candidate.item for candidate in found.usable]
    held = ids[first:]
    if source is None or paired is None:
        pairs = halves(held, tokenizer)
    else:
        contents = [bytes(candidate.content) for candidate in found.usable[first:]]
        pairs = column_pairs(contents, held, paired_texts(source, column, paired), tokenizer)
    return CalibrationData(ids[:first], held, _record(_TEXTS, source, seed, found, first), pairs)


def image_data(
    source: Path | None,
    rule: Preprocessing,
    *,
    count: int = IMAGE_ITEMS,
    held_out: int = IMAGE_HELD_OUT,
    seed: int = 0,
    note: Note,
    progress: Progress = lambda share: None,
) -> ImageData:
    """Choose images from a folder, or draw them, and prepare them as the runtime does.

    Files that cannot be read as images are left out, named and counted; images with the same prepared pixels count
    once. Only as many are read as are needed.

    Args:
        source: a folder, searched with its subfolders; None for built-in synthetic radiographs.
        rule: the rules of the image tower.
        count: number to calibrate with, at least 16. A source with too few is divided in the same proportion.
        held_out: number to judge by, at least 8.
        seed: of the order, or of the built-in images; the same seed and files give the same result.
        note: takes remarks for the user.
        progress: takes the share done, 0 to 1.

    Raises:
        CalibrationError: the folder is missing, none, or has fewer than 24 usable, distinct images; or too few were
            asked for.
        MissingExtraError: a file needs an optional package.
    """
    _check_numbers(_IMAGES, count, held_out)
    wanted = available = count + held_out
    if source is None:
        candidates = built_in_images(rule, seed, _CANDIDATES * wanted)
    else:
        available, candidates = images_of_folder(source, rule, seed, note)
    found = _take(candidates, wanted, lambda done: progress(done / min(wanted, available)))
    first = _split(_IMAGES, source, found, count, held_out, note)
    pixels = np.stack([candidate.item for candidate in found.usable])
    return CalibrationData(pixels[:first], pixels[first:], _record(_IMAGES, source, seed, found, first))


def _check_numbers(kind: _Kind, *asked: int) -> None:
    for number, least, purpose in zip(asked, kind.least, ("to calibrate with", "to judge by"), strict=True):
        if number < least:
            raise CalibrationError(f"{number} {kind.what} {purpose} were asked for; at least {least} are expected.")


def _take(
    candidates: Iterable[Candidate[Item] | Fault], wanted: int, progress: Callable[[int], None] = lambda done: None
) -> _Found[Item]:
    """Go through candidates until enough distinct ones are found; the rest is never read."""
    usable: dict[Hashable, Candidate[Item]] = {}
    faults: list[Fault] = []
    repeats = 0
    for candidate in candidates:
        if isinstance(candidate, Fault):
            faults.append(candidate)
        elif candidate.key in usable:
            repeats += 1
        else:
            usable[candidate.key] = candidate
            progress(len(usable))
            if len(usable) == wanted:
                break
    return _Found(list(usable.values()), faults, repeats)


def _split(kind: _Kind, source: Path | None, found: _Found[Any], count: int, held_out: int, note: Note) -> int:
    """How many of the usable items calibrate; what the user should know of the choice goes to `note`."""
    usable, wanted = len(found.usable), count + held_out
    least, least_held_out = kind.least
    if usable < least + least_held_out:
        raise _too_few(kind, source, found)
    first = min(max(round(usable * count / wanted), least), usable - least_held_out)
    if source is None:
        note(
            f"Calibrating int8 with built-in {kind.what}: its fidelity is measured on {kind.what} like those and holds "
            f"for those alone. To calibrate and judge with {kind.what} like yours, pass some with {kind.option}."
        )
        return first
    if found.faults:
        looked = usable + len(found.faults) + found.repeats
        note(
            f"{source}: {len(found.faults)} of {looked} {kind.what} looked at cannot be used and are left out:"
            f"{listed(found.faults)}"
        )
    if found.repeats:
        note(f"{source}: {found.repeats} of the {kind.what} repeat others and count once.")
    if usable < wanted:
        note(
            f"{source}: {usable} usable, distinct {kind.what} instead of the {wanted} wanted: {first} calibrate, "
            f"{usable - first} judge. With more, ranges and figures would be surer."
        )
    return first


def _too_few(kind: _Kind, source: Path | None, found: _Found[Any]) -> CalibrationError:
    name = source or f"The built-in {kind.what}"
    advice = f"Add some, or leave out {kind.option} for built-in ones" if source else f"Pass {kind.option}"
    least, least_held_out = kind.least
    return CalibrationError(
        f"{name}: {len(found.usable)} usable, distinct {kind.what} ({len(found.faults)} cannot be used, "
        f"{found.repeats} repeat others); at least {least + least_held_out} are expected, {least} to calibrate with "
        f"and {least_held_out} to judge by. {advice}.{listed(found.faults)}"
    )


def listed(faults: Sequence[Fault]) -> str:
    """The first few faults, a line each, and how many more there are."""
    lines = [f"\n  {fault.name}: {fault.reason}" for fault in faults[:_NAMED_FAULTS]]
    if len(lines) < len(faults):
        lines.append(f"\n  … and {len(faults) - len(lines)} more")
    return "".join(lines)


def _record(kind: _Kind, source: Path | None, seed: int, found: _Found[Any], first: int) -> CalibrationSet:
    return CalibrationSet(
        kind=kind.source if source else "built-in",
        name=source.resolve().name if source else "built-in",
        seed=seed,
        items=first,
        sha256=_digest(found.usable[:first]),
        held_out=len(found.usable) - first,
        held_out_sha256=_digest(found.usable[first:]),
        skipped=len(found.faults),
    )


def _digest(candidates: Sequence[Candidate[Any]]) -> str:
    digest = hashlib.sha256()
    for candidate in candidates:
        digest.update(candidate.content)
    return digest.hexdigest()
