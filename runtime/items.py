"""What the command line is given → images or texts with ids, one after the other.

Rows of tables and lines are read as they are embedded; of folders and patterns the sorted list of names is held (about
150 bytes a file), because an order that does not depend on the file system is what lets a run be resumed.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runtime.decoders import is_supported_name
from runtime.errors import Fault, InputError
from runtime.tables import TABLES, Columns, Item, Unusable, count_lines, read_lines, read_stdin, read_table

__all__ = ["TEXT_SUFFIXES", "Items", "Source", "Stream", "collect_items", "find_items"]

TEXT_SUFFIXES = (".txt", *TABLES)
_EXPECTED = (
    "image files, folders of images, patterns, .txt, .csv, .jsonl or .parquet files, - for standard input, or --text"
)


@dataclass(frozen=True)
class Source:
    """One of the inputs.

    Attributes:
        name: as given.
        part: "text" or "image": what it holds.
        read: iterates over its items from the first; raises InputError where it cannot be read on.
        count: number of items; None where that is not known beforehand (standard input).
        stamp: what tells cheaply that it is still the same: names and sizes, not contents.
    """

    name: str
    part: str
    read: Callable[[], Iterator[Item]]
    count: int | None
    stamp: dict[str, Any]


@dataclass(frozen=True)
class Stream:
    """All inputs, of one kind.

    Attributes:
        part: "text" or "image".
        sources: in the order given, texts given directly first.
    """

    part: str
    sources: tuple[Source, ...]

    def __iter__(self) -> Iterator[Item]:
        return (item for source in self.sources for item in source.read())

    def files(self) -> Iterator[str]:
        """Paths of all that is read, images that tables name among them; "-" is standard input.

        Raises:
            InputError: a table that cannot be read on.
        """
        for source in self.sources:
            yield source.name
            if self.part == "image":
                yield from (item.value for item in source.read() if isinstance(item.value, str))

    @property
    def total(self) -> int | None:
        """Number of items; None where one of the inputs does not know its own."""
        counts = [source.count for source in self.sources if source.count is not None]
        return sum(counts) if len(counts) == len(self.sources) else None


def find_items(inputs: Sequence[str], texts: Sequence[str], columns: Columns) -> Stream:
    """Find the images or texts that arguments name, and check them as far as that is cheap.

    Args:
        inputs: image files, folders (searched for images, sorted), patterns with *, ? and ** (every file that matches,
            sorted), text files (.txt: one text a line; .csv, .jsonl and .parquet: one text or image a row), "-" for
            lines of standard input. A file of that very name goes before a pattern.
        texts: texts given directly.
        columns: which columns of tables to read.

    Raises:
        InputError: nothing found, images mixed with texts, files that are missing, unreadable, empty or without the
            column. All faults are listed together.
        MissingExtraError: a .parquet file without pyarrow.
    """
    sources: list[Source] = []
    if texts:
        sources.append(_given_texts(texts))
    loose: list[str] = []
    faults: list[Fault] = []
    for position, name in enumerate(inputs):
        try:
            if _is_image_argument(name):
                loose.append(name)
                continue
            sources += _loose_images(loose)
            loose = []
            found = _open(name, columns)
        except (OSError, ValueError) as error:
            faults.append(Fault(position, name, _reason(error)))
        else:
            sources += found
            if not any(source.count is None or source.count for source in found):
                faults.append(Fault(position, name, "holds nothing to embed"))
    sources += _loose_images(loose)
    if faults:
        raise InputError.from_faults("inputs", faults, len(inputs))
    if not sources:
        raise InputError(f"There is nothing to embed: give {_EXPECTED}.")
    first = {source.part: source.name for source in reversed(sources)}
    if len(first) > 1:
        raise InputError(
            f"Images ({first['image']}) and texts ({first['text']}) came together; one output holds one kind. "
            "Run the command once for each. (Tables hold texts unless their --image-column is named.)"
        )
    return Stream(sources[0].part, tuple(sources))


@dataclass(frozen=True)
class Items:
    """Things to embed, held in memory.

    Attributes:
        part: "text" or "image".
        ids: one per item, see `Item.id`.
        values: texts, or paths of images; what a row holds instead of a text is kept for the encoder to refuse.
    """

    part: str
    ids: list[str]
    values: list[Any]


def collect_items(inputs: Sequence[str], texts: Sequence[str], column: str, id_column: str | None) -> Items:
    """Read everything at once; see `find_items`.

    Raises:
        InputError: as `find_items`; also for rows that cannot be read.
        MissingExtraError: a .parquet file without pyarrow.
    """
    stream = find_items(inputs, texts, Columns(text=column, id=id_column))
    collected = Items(stream.part, [], [])
    for index, source in enumerate(stream.sources):
        for item in source.read():
            if isinstance(item.value, Unusable):
                raise InputError.from_faults("inputs", [Fault(index, source.name, item.value.reason)], len(inputs))
            collected.ids.append(item.id)
            collected.values.append(item.value)
    return collected


def _open(name: str, columns: Columns) -> list[Source]:
    if columns.image and (name == "-" or Path(name).suffix.lower() == ".txt"):
        raise ValueError("has lines of text, but --image-column asks for images. Give a table with that column")
    if name == "-":
        return [Source("-", "text", read_stdin, None, {"name": "-"})]
    path = Path(name)
    if _is(Path.is_dir, path) and path.suffix.lower() not in TEXT_SUFFIXES:
        return [_listing(name, _images_below(path))]
    if not path.exists() and glob.has_magic(name):
        matches = glob.glob(name, recursive=True)  # noqa: PTH207 (the pattern may be absolute)
        files = sorted(file for file in matches if not Path(file).is_dir())
        images = [file for file in files if Path(file).suffix.lower() not in TEXT_SUFFIXES]
        if not files:
            raise ValueError("matches no file")
        rows = [_rows_of(file, columns) for file in files if Path(file).suffix.lower() in TEXT_SUFFIXES]
        return [*([_listing(name, images)] if images else []), *rows]
    return [_rows_of(name, columns)]


def _is_image_argument(name: str) -> bool:
    path = Path(name)
    if name == "-" or path.suffix.lower() in TEXT_SUFFIXES or _is(Path.is_dir, path):
        return False
    if _is(Path.exists, path):
        return True
    if glob.has_magic(name):
        return False
    if is_supported_name(path):
        return True  # one missing image among many is a bad item, not the end
    raise ValueError("there is no such file or folder. Is it a text? Then pass it with --text")


def _is(test: Callable[[Path], bool], path: Path) -> bool:
    try:
        return test(path)
    except OSError as error:
        raise ValueError(f"is no file name ({error.strerror}). Is it a text? Then pass it with --text") from None


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _given_texts(texts: Sequence[str]) -> Source:
    items = [Item(f"text:{number}", text) for number, text in enumerate(texts, 1)]
    stamp = {"name": "--text", "texts": len(texts), "sha256": _sha256(texts)}
    return Source("--text", "text", partial(iter, items), len(texts), stamp)


def _loose_images(files: list[str]) -> list[Source]:
    """Files named one by one become one source: a shell may have expanded a pattern to thousands."""
    return [_listing(files[0] if len(files) == 1 else f"{files[0]} …", files)] if files else []


def _listing(name: str, files: list[str]) -> Source:
    stamp = {"name": name, "files": len(files), "sha256": _sha256(files)}
    return Source(name, "image", lambda: (Item(file, file) for file in files), len(files), stamp)


def _sha256(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def _images_below(folder: Path) -> list[str]:
    """Sorted paths of the images in a folder and its subfolders; an unreadable subfolder raises, unlike in `rglob`."""
    found = []
    folders = [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif is_supported_name(Path(entry.name)) and (entry.is_file() or entry.is_symlink()):
                    found.append(str(Path(entry.path)))
    return sorted(found)


def _rows_of(name: str, columns: Columns) -> Source:
    path = Path(name)
    status = path.stat()
    stamp = {"name": name, "bytes": status.st_size, "modified": status.st_mtime_ns}
    table = TABLES.get(path.suffix.lower())
    if table is None:
        return Source(name, "text", partial(_guarded, name, read_lines, path), count_lines(path), stamp)
    if path.is_dir():
        raise IsADirectoryError(None, "Is a directory")
    table.check(path, columns.wanted)
    part = "image" if columns.image else "text"
    return Source(name, part, partial(_guarded, name, read_table, path, columns), table.count(path), stamp)


def _guarded(name: str, read: Callable[..., Iterator[Item]], *arguments: Any) -> Iterator[Item]:
    """What breaks in the middle of a file names the file."""
    try:
        yield from read(*arguments)
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {_reason(error)}", [Fault(0, name, _reason(error))]) from None
