"""Folders and patterns → the images in them, known by their first bytes, and what is passed over with the reason.

One search serves both: a folder is searched as the pattern `folder/**` is. Two passes make the result independent of
the file system's order: first what lies there itself, then what links lead to, in the order of their names. So each
folder is searched once, under its own name where it has one here, and cycles end.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

from runtime.files.formats import is_supported_name, read_head, recognize
from runtime.files.litter import why_litter
from runtime.process.workers import ordered_map

__all__ = ["Found", "PassedOver", "describe_passed_over", "search_folder", "search_pattern"]

_NO_IMAGE, _EMPTY, _BROKEN_LINK = "no image", "empty", "broken link"
_NO_FILE = "FIFO, socket or device"
_NOT_ENTERED = "folder that the pattern does not enter (end it with /**)"
_SEARCHED = "link to a folder that is searched already"
_EXAMPLES = 3
# Threads hide the waiting where files come over a network: 10,000 files, each slowed down by 2 ms, take 1.4 s and not
# 21. From memory they change nothing: 100,000 files without a suffix are found in 2.5 s (1.4 s of processor time), half
# of which is the walk. Measured on 2 shared cores.
_READERS = 16
_BATCH = 128

_State: TypeAlias = "frozenset[int]"


class PassedOver(NamedTuple):
    """A file or folder that is not read."""

    path: str
    reason: str
    is_folder: bool = False


@dataclass(frozen=True)
class Found:
    """What a folder or pattern holds.

    Attributes:
        images: paths, sorted: files that are images by their first bytes, and those that claim to be by their name, the
            broken ones too: whoever reads them says what is wrong.
        passed_over: the others, sorted by path.
    """

    images: list[str]
    passed_over: list[PassedOver]


def search_folder(folder: str | os.PathLike[str]) -> Found:
    """Find the images in a folder and its subfolders.

    Linked folders are followed, each folder is searched once; FIFOs, sockets and devices are not opened.

    Raises:
        OSError: it cannot be read. Subfolders that cannot are passed over.
    """
    return _search(Path(folder), ["**", "*"])


def search_pattern(pattern: str) -> Found:
    """Find the images that a pattern with *, ?, [] and ** matches, as `glob` understands them.

    `folder/**` finds what `search_folder` does. As there, linked folders are followed and each is searched once; what
    begins with a dot is passed over, unless that part of the pattern does, too. A slash at the end means /**.

    Raises:
        OSError: the folder before the first wildcard cannot be read.
    """
    parts = list(Path(pattern).parts)
    if pattern.endswith(("/", os.sep)):
        parts.append("**")
    if parts[-1] == "**":  # any files below, but not the folder itself
        parts.append("*")
    fixed = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    try:
        return _search(Path(*parts[:fixed]), parts[fixed:])
    except (FileNotFoundError, NotADirectoryError):
        return Found([], [])


def describe_passed_over(passed_over: Sequence[PassedOver]) -> str:
    """How many files and folders are passed over, by reason with a few examples; "" where none are."""
    if not passed_over:
        return ""
    names: dict[str, list[str]] = {}
    for each in passed_over:
        names.setdefault(each.reason, []).append(each.path)
    listed = [
        f"{reason}: {len(paths):,} ({', '.join(paths[:_EXAMPLES])}{', …' if len(paths) > _EXAMPLES else ''})"
        for reason, paths in sorted(names.items(), key=lambda entry: -len(entry[1]))
    ]
    folders = sum(each.is_folder for each in passed_over)
    counts = ((len(passed_over) - folders, "file"), (folders, "folder"))
    total = " and ".join(f"{count:,} {what}{'s' if count > 1 else ''}" for count, what in counts if count)
    return f"{total} {'is' if len(passed_over) == 1 else 'are'} passed over: {'; '.join(listed)}"


class _Pattern:
    """Parts of a pattern as a small automaton; a state is the set of parts that may come next."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = [(part == "**", part.startswith("."), re.compile(fnmatch.translate(part))) for part in parts]
        self.start = self._closed(0)

    def _closed(self, position: int) -> _State:
        found = [position]
        while position < len(self._parts) and self._parts[position][0]:  # ** may stand for no folder at all
            position += 1
            found.append(position)
        return frozenset(found)

    def after(self, state: _State, name: str) -> tuple[_State, bool]:
        """The state after a name, and whether a leading dot in it is meant."""
        moved = {False: frozenset[int](), True: frozenset[int]()}
        for position in state:
            any_folders, dotted, part = self._parts[position]
            if any_folders:
                moved[False] |= self._closed(position)
            elif part.match(name):
                moved[dotted] |= self._closed(position + 1)
        hidden = name.startswith(".")
        return (moved[True], True) if hidden and moved[True] else (moved[False] | moved[True], False)

    def accepts(self, state: _State) -> bool:
        return len(self._parts) in state

    def below(self, state: _State) -> _State:
        """The state within a folder; empty where nothing below it can match."""
        return state - {len(self._parts)}


@dataclass
class _Search:
    """A search under way.

    Attributes:
        pattern: what names must match.
        seen: folders that were searched, by device, inode and the state they were reached in.
        links: linked folders that wait for the second pass.
        candidates: files to look at.
        passed_over: as in `Found`.
    """

    pattern: _Pattern
    seen: set[tuple[int, int, _State]] = field(default_factory=set)
    links: list[tuple[str, _State]] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)

    def walk(self, folder: str, state: _State) -> None:
        """Search a folder and its subfolders, but not linked ones; what cannot be read raises or is passed over."""
        waiting = [(folder, state)]
        while waiting:
            path, state = waiting.pop()
            try:
                status = os.stat(path or ".")  # noqa: PTH116
                identity = (status.st_dev, status.st_ino, state)
                if identity in self.seen:
                    continue
                with os.scandir(path or ".") as entries:
                    self.seen.add(identity)
                    for entry in entries:
                        self._sort(os.path.join(path, entry.name), entry, state, waiting)  # noqa: PTH118
            except OSError as error:
                if path == folder:
                    raise
                self.passed_over.append(PassedOver(path, _why_unreadable(error), True))

    def _sort(self, path: str, entry: os.DirEntry[str], before: _State, waiting: list[tuple[str, _State]]) -> None:
        state, dot_meant = self.pattern.after(before, entry.name)
        if not state:
            return
        try:
            is_link, is_folder, is_file, reason = *_kind(entry), None
        except OSError as error:
            broken = error.errno in (errno.ENOENT, errno.ELOOP)
            is_link, is_folder, is_file, reason = False, False, True, _BROKEN_LINK if broken else _why_unreadable(error)
            if is_supported_name(entry.name):
                reason = None  # whoever reads it says what is wrong
        if not is_folder and not self.pattern.accepts(state):
            return
        if litter := why_litter(entry.name, is_folder, dot_meant):
            reason = litter
        elif is_folder and not self.pattern.below(state):
            reason = _NOT_ENTERED
        elif not is_folder and not is_file:
            reason = _NO_FILE
        if reason is not None:
            self.passed_over.append(PassedOver(path, reason, is_folder))
        elif is_folder:
            (self.links if is_link else waiting).append((path, self.pattern.below(state)))
        else:
            self.candidates.append(path)

    def follow_links(self) -> None:
        """Search the linked folders, those first that are named first."""
        while self.links:
            links, self.links = sorted(self.links, key=lambda link: link[0]), []
            for path, state in links:
                before = len(self.seen)
                try:
                    self.walk(path, state)
                except OSError as error:
                    self.passed_over.append(PassedOver(path, _why_unreadable(error), True))
                else:
                    if len(self.seen) == before:
                        self.passed_over.append(PassedOver(path, _SEARCHED, True))


def _search(root: Path, parts: Sequence[str]) -> Found:
    search = _Search(_Pattern(parts))
    search.walk("" if root == Path() else str(root), search.pattern.start)
    search.follow_links()
    images = [path for path in search.candidates if is_supported_name(path)]
    unknown = sorted(path for path in search.candidates if not is_supported_name(path))
    passed_over = search.passed_over
    for path, reason in zip(unknown, _look_at(unknown), strict=True):
        if reason is None:
            images.append(path)
        else:
            passed_over.append(PassedOver(path, reason))
    return Found(sorted(images), sorted(passed_over))


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool, bool]:
    """Whether an entry is a link, and whether it is, or leads to, a folder or a regular file."""
    if not entry.is_symlink():
        return False, entry.is_dir(), entry.is_file()
    mode = entry.stat().st_mode  # which raises where the link leads nowhere; is_dir() would not
    return True, stat.S_ISDIR(mode), stat.S_ISREG(mode)


def _look_at(paths: Sequence[str]) -> Iterator[str | None]:
    """Why each file is passed over; None for images."""
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    workers = min(_READERS, len(batches)) if len(batches) > 1 else 0
    return chain.from_iterable(ordered_map(lambda batch: [_reason(path) for path in batch], batches, workers))


def _reason(path: str) -> str | None:
    try:
        head = read_head(path)
    except OSError as error:
        return _why_unreadable(error)
    found = recognize(head)
    if found is None:
        return _NO_IMAGE if head else _EMPTY
    return None if found.image else found.name.partition(",")[0]


def _why_unreadable(error: OSError) -> str:
    return f"unreadable ({error.strerror})"
