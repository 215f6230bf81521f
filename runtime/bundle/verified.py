"""Files that are what their digests say, when they are opened and for as long as an engine reads them.

A bundle may be replaced while a process serves from it, by renaming, copying over it or editing in place. Hashing alone
does not tell: the file that was hashed need not be the one that the engine opened by its name a moment later. So files
are hashed through a descriptor, and once the engine has opened them their names must still stand for what was hashed. A
file whose inode, size and times are those of the last time need not be hashed again.

Engines map large files of weights into memory and read them whenever they compute, so each call looks whether they were
written to (2 µs a file). Nothing helps against cutting it short amid a call: the system ends a process
that reads mapped memory beyond the end of its file (SIGBUS). To replace a bundle under a running process, rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from numpy import float32
from numpy.typing import NDArray

from runtime.bundle.manifest import MANIFEST_NAME, FileEntry
from runtime.engines import Session
from runtime.errors import BundleError, CxrEngineError
from runtime.process.forks import opening

__all__ = ["MappedFiles", "Stamp", "VerifiedFiles", "WatchedSession"]

_BLOCK = 1 << 20
# How often files that are replaced while they are being opened are opened again.
_TRIES = 3
# A file that was written so shortly before it was hashed could be written again without another time of change.
_RECENT_NS = 2_000_000_000

_Opened = TypeVar("_Opened")


class Stamp(NamedTuple):
    """What is another one whenever a file was written to or replaced."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @staticmethod
    def of(status: os.stat_result) -> Stamp:
        """The stamp in what the system says of a file."""
        return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass
class _File:
    """An open file: its descriptor, its path, the digest it must have, and its stamp."""

    descriptor: int
    path: Path
    sha256: str
    stamp: Stamp


class MappedFiles:
    """Files that an engine may read whenever it computes."""

    def __init__(
        self,
        files: Mapping[Path, tuple[str, Stamp]],
        error: Callable[[str], CxrEngineError] = BundleError,
        what: str = "bundle",
    ) -> None:
        """Remember each file's digest, and its stamp when it had it.

        Args:
            files: path → digest and stamp.
            error: what to raise.
            what: they belong to.
        """
        self._files = dict(files)
        self._error = error
        self._what = what
        if os.name == "posix":
            # As long as a removed file is open, no other one is given its inode, by which it is told from this one.
            pins = [(descriptor, stamp) for path, (_, stamp) in files.items() if (descriptor := _pin(path)) is not None]
            weakref.finalize(self, _unpin, pins).atexit = False

    def check(self) -> None:
        """Make sure that nobody wrote to them.

        A file that is gone, or in whose place there is another one, is still there for the engine, as it was.

        Raises:
            BundleError, or what was asked for: the content of one is another.
        """
        for path, (_, stamp) in self._files.items():
            try:
                if Stamp.of(os.stat(path)) != stamp:  # noqa: PTH116  half the time of Path.stat
                    self._look(path)
            except OSError:
                continue

    def _look(self, path: Path) -> None:
        sha256, known = self._files[path]
        with path.open("rb") as stream:
            stamp = Stamp.of(os.fstat(stream.fileno()))
            if (stamp.device, stamp.inode) != (known.device, known.inode):
                return
            found = _digest(stream.fileno())  # touched, linked, or written to
        if found != sha256:
            raise self._error(
                f"{path} was written to while the {self._what} is in use. Open the {self._what} again. To replace one "
                "in use, put another folder in its place by renaming."
            )
        self._files[path] = (sha256, stamp)


class WatchedSession:
    """A session whose files are looked at before and after each call."""

    def __init__(self, session: Session, files: MappedFiles) -> None:
        self._session = session
        self._files = files

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[float32]]:
        """Compute the named outputs from the named inputs.

        Raises:
            BundleError: a file that the engine reads was written to.
            ProviderError: see the session.
        """
        self._files.check()
        found = self._session.run(outputs, inputs)
        self._files.check()
        return found


@dataclass
class VerifiedFiles:
    """The files of a bundle.

    Attributes:
        root: its folder.
        entries: what the manifest says of each file.
        in_use: the bundle was loaded: from now on a file that is another one was replaced meanwhile.
    """

    root: Path
    entries: Mapping[str, FileEntry]
    in_use: bool = False
    _known: dict[str, Stamp] = field(default_factory=dict, repr=False)

    def verify(self, names: Iterable[str]) -> None:
        """Compare files with the manifest's sha256.

        Raises:
            BundleError: a file is not listed, or its content changed since export.
        """
        for name in names:
            file = self._open(name)
            try:
                self._check(name, file)
            finally:
                os.close(file.descriptor)

    def open(
        self, read: Sequence[str], mapped: Sequence[str], open_files: Callable[[], _Opened]
    ) -> tuple[_Opened, MappedFiles]:
        """Open something by the names of files, and make sure that these are what the manifest says.

        Args:
            read: files that are read when they are opened. They are verified before.
            mapped: files of raw numbers that may be read later as well. They are hashed while they are opened.
            open_files: opens them.

        Returns:
            What it gives, and the mapped files, to be checked as long as it is used.

        Raises:
            BundleError: a file is missing, not listed, or has another content.
            CxrEngineError: what `open_files` raises.
        """
        with opening():
            found = None
            for left in reversed(range(_TRIES)):
                found = found or self._try_open(read, mapped, open_files, last=left == 0)
            assert found is not None
            return found

    def _try_open(
        self, read: Sequence[str], mapped: Sequence[str], open_files: Callable[[], _Opened], *, last: bool
    ) -> tuple[_Opened, MappedFiles] | None:
        """As `open`; None where a file was replaced or written to meanwhile, but for the last time."""
        with contextlib.ExitStack() as stack:
            files: dict[str, _File] = {}
            for name in (*read, *mapped):
                files[name] = self._open(name)
                stack.callback(os.close, files[name].descriptor)
            opened = self._open_checked(files, read, mapped, open_files)
            if not self._same(files):
                if not last:
                    return None
                self.verify(files)  # some file systems have no lasting inodes
        if isinstance(opened, CxrEngineError):
            raise opened
        return opened, MappedFiles({files[name].path: (files[name].sha256, files[name].stamp) for name in mapped})

    def _open_checked(
        self,
        files: Mapping[str, _File],
        read: Sequence[str],
        mapped: Sequence[str],
        open_files: Callable[[], _Opened],
    ) -> _Opened | CxrEngineError:
        """What was opened, or why it could not be, with the right content of every file."""
        unknown = [name for name, file in files.items() if self._known.get(name) != file.stamp]
        for name in read:
            if name in unknown:
                self._check(name, files[name])
        with ThreadPoolExecutor(1) as pool:
            checks = [pool.submit(self._check, name, files[name]) for name in mapped if name in unknown]
            opened: _Opened | CxrEngineError
            try:
                opened = open_files()
            except CxrEngineError as error:
                opened = error
            for check in checks:
                check.result()  # a changed file is the better explanation
        return opened

    def _same(self, files: Mapping[str, _File]) -> bool:
        """Whether the names still stand for the files that were hashed, and nobody wrote to them meanwhile."""
        for name, file in files.items():
            try:
                if Stamp.of((self.root / name).stat()) != file.stamp:
                    return False
            except OSError:
                return False
        return True

    def _open(self, name: str) -> _File:
        entry = self.entries.get(name)
        if entry is None:
            raise BundleError(f"{self.root}: '{name}' is not listed in {MANIFEST_NAME}. Export the bundle again.")
        path = self.root / name
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            return _File(descriptor, path, entry.sha256, Stamp.of(os.fstat(descriptor)))
        except OSError as error:
            since = " It was removed or replaced after it was loaded: load it again." if self.in_use else ""
            raise BundleError(f"{path} cannot be read: {error}.{since}") from None

    def _check(self, name: str, file: _File) -> None:
        begun = time.time_ns()
        try:
            found = _digest(file.descriptor)
        except OSError as error:
            raise BundleError(f"{file.path} cannot be read: {error}") from None
        if found != file.sha256:
            what, remedy = "was changed after the export", "Copy the bundle again, or export it again."
            if self.in_use:
                what += ", or replaced after the bundle was loaded"
                remedy = f"Load the bundle again; where that fails, c{remedy[1:]}"
            raise BundleError(f"{file.path} {what}: its sha256 is {found}, the manifest says {file.sha256}. {remedy}")
        if file.stamp.changed < begun - _RECENT_NS:
            self._known[name] = file.stamp


def _pin(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return None


def _unpin(pins: Iterable[tuple[int, Stamp]]) -> None:
    for descriptor, stamp in pins:
        # Code that makes a process a daemon closes every file; the number may be another file's by now.
        with contextlib.suppress(OSError):
            if Stamp.of(os.fstat(descriptor))[:2] == stamp[:2]:
                os.close(descriptor)


def _digest(descriptor: int) -> str:
    """SHA-256 of an open file, wherever its position is, which a parent and its forked children share."""
    digest = hashlib.sha256()
    if hasattr(os, "pread"):
        position = 0
        while block := os.pread(descriptor, _BLOCK, position):
            digest.update(block)
            position += len(block)
    else:
        os.lseek(descriptor, 0, os.SEEK_SET)
        while block := os.read(descriptor, _BLOCK):
            digest.update(block)
    return digest.hexdigest()
