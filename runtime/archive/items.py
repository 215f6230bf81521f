"""What the command line is given → images or texts with ids, one after the other.

Rows of tables and lines are read as they are embedded; of folders and patterns the sorted list of names is held (about
150 bytes a file), because an order that does not depend on the file system is what lets a run be resumed. What folders
and patterns hold is found in `folders.py`.
"""

from __future__ import annotations

import glob
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from runtime.errors import Fault, InputError
from runtime.files import Columns, Item, Unusable
from runtime.files.folders import PassedOver, describe_passed_over, search_folder, search_pattern
from runtime.files.formats import is_supported_name
from runtime.files.tables import (
    TABLES,
    check_columns,
    count_lines,
    read_lines,
    read_stdin_lines,
    read_table,
    refuse_other_tables,
)

__all__ = ["TEXT_SUFFIXES", "Items", "Source", "Stream", "collect_items", "find_items"]

TEXT_SUFFIXES = (".txt", *TABLES)
_LOG = logging.getLogger("runtime")
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
        passed_over: what a folder or pattern holds beside its items.
    """

    name: str
    part: str
    read: Callable[[], Iterator[Item]]
    count: int | None
    stamp: dict[str, Any]
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True)
class Stream:
    """All inputs, of one kind.

    Attributes:
        part: "text" or "image".
        sources: in the order given, texts given directly first.
        prompt_name: of what the system puts before its texts, see `TextEncoder.encode`.
    """

    part: str
    sources: tuple[Source, ...]
    prompt_name: str | None = None

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
                for item in source.read():
                    yield from (each for each in (item.value, item.previous) if isinstance(each, str))

    @property
    def total(self) -> int | None:
        """Number of items; None where one of the inputs does not know its own."""
        counts = [source.count for source in self.sources if source.count is not None]
        return sum(counts) if len(counts) == len(self.sources) else None

    @property
    def passed_over(self) -> tuple[PassedOver, ...]:
        """What folders and patterns hold beside the items."""
        return tuple(each for source in self.sources for each in source.passed_over)


def find_items(inputs: Sequence[str], texts: Sequence[str], columns: Columns) -> Stream:
    """Find the images or texts that arguments name, and check them as far as that is cheap.

    What folders and patterns hold beside them is said once, at WARNING of the logger "runtime".

    Args:
        inputs: image files, folders (searched for images, sorted), patterns with *, ? and ** (the images that match,
            sorted, and before texts and tables where these are asked for by their suffix or no image matches), text
            files (.txt: one text a line; .csv, .jsonl and .parquet: one text or image a row), "-" for
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
                beside = describe_passed_over([each for source in found for each in source.passed_over])
                faults.append(Fault(position, name, f"holds nothing to embed{beside and f': {beside}'}"))
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
    stream = Stream(sources[0].part, tuple(sources))
    if stream.passed_over:
        _LOG.warning("%s", describe_passed_over(stream.passed_over))
    return stream


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


def collect_items(
    inputs: Sequence[str],
    texts: Sequence[str],
    column: str,
    id_column: str | None,
    on_unusable: Callable[[Fault], None] | None = None,
) -> Items:
    """Read everything at once; see `find_items`.

    Args:
        inputs: see `find_items`.
        texts: see `find_items`.
        column: of texts.
        id_column: of ids.
        on_unusable: takes the rows that cannot be read, which are left out; `Fault.index` is the position among all.

    Raises:
        InputError: as `find_items`; also for rows that cannot be read, without `on_unusable`.
        MissingExtraError: a .parquet file without pyarrow.
    """
    stream = find_items(inputs, texts, Columns(text=column, id=id_column))
    collected = Items(stream.part, [], [])
    for index, item in enumerate(stream):
        if not isinstance(item.value, Unusable):
            collected.ids.append(item.id)
            collected.values.append(item.value)
            continue
        fault = Fault(index, item.id, item.value.reason)
        if on_unusable is None:
            raise InputError(f"{fault.name}: {fault.reason}", [fault])
        on_unusable(fault)
    return collected


def _open(name: str, columns: Columns) -> list[Source]:
    if columns.image and (name == "-" or Path(name).suffix.lower() == ".txt"):
        raise ValueError("has lines of text, but --image-column asks for images. Give a table with that column")
    if name == "-":
        return [Source("-", "text", partial(_guarded, "-", read_stdin_lines), None, {"name": "-"})]
    path = Path(name)
    if _is(Path.is_dir, path) and path.suffix.lower() not in TEXT_SUFFIXES:
        found = search_folder(path)
        return [_listing(name, found.images, found.passed_over)]
    if glob.has_magic(name) and not _is(Path.exists, path):
        return _matches(name, columns)
    return [_rows_of(name, columns)]


def _matches(pattern: str, columns: Columns) -> list[Source]:
    """The images that match; the texts and tables as well where they go with images, or where nothing else matches."""
    found = search_pattern(pattern)
    if not found.images and not found.passed_over:
        raise ValueError("matches no file")
    texts = [each.path for each in found.passed_over if not each.is_folder and _is_text(each.path)]
    if found.images and not columns.image and not _is_text(pattern):
        texts = []
    rows = [_rows_of(path, columns) for path in texts]
    sources = [*([_listing(pattern, found.images)] if found.images or not rows else []), *rows]
    read = set(texts)
    return [
        replace(sources[0], passed_over=tuple(each for each in found.passed_over if each.path not in read)),
        *sources[1:],
    ]


def _is_text(name: str) -> bool:
    return Path(name).suffix.lower() in TEXT_SUFFIXES


def _is_image_argument(name: str) -> bool:
    path = Path(name)
    if name == "-" or path.suffix.lower() in TEXT_SUFFIXES or _is(Path.is_dir, path):
        return False
    if _is(Path.exists, path):
        refuse_other_tables(name)
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


def _listing(name: str, files: list[str], passed_over: Sequence[PassedOver] = ()) -> Source:
    stamp = {"name": name, "files": len(files), "sha256": _sha256(files)}
    return Source(name, "image", lambda: (Item(file, file) for file in files), len(files), stamp, tuple(passed_over))


def _sha256(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def _rows_of(name: str, columns: Columns) -> Source:
    path = Path(name)
    status = path.stat()
    stamp = {"name": name, "bytes": status.st_size, "modified": status.st_mtime_ns}
    table = TABLES.get(path.suffix.lower())
    if table is None:
        return Source(name, "text", partial(_guarded, name, read_lines, path), count_lines(path), stamp)
    if path.is_dir():
        raise IsADirectoryError(None, "Is a directory")
    check_columns(path, columns.wanted)
    part = "image" if columns.image else "text"
    return Source(name, part, partial(_guarded, name, read_table, path, columns), table.count(path), stamp)


def _guarded(name: str, read: Callable[..., Iterator[Item]], *arguments: Any) -> Iterator[Item]:
    """What breaks in the middle of a file names the file."""
    try:
        yield from read(*arguments)
    except InputError:
        raise  # standard input's, which says itself what it is of
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {_reason(error)}", [Fault(0, name, _reason(error))]) from None
