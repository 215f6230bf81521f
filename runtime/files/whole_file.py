"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import InputError
from runtime.files.replaceable import obstacle, real_path

__all__ = ["PARTIAL", "put_folder", "sync", "whole_file", "whole_files"]

# In the names of files that are being written; what a killed process leaves has it too.
PARTIAL = ".partial-"
# A name has at most 255 bytes, and the name of its partial file is longer.
_KEPT_BYTES = 200
_NUMBERS = itertools.count()


@contextmanager
def whole_file(out: Path, replace: bool = True) -> Iterator[Path]:
    """A name to write to that becomes `out` on success and vanishes on failure; see `whole_files`."""
    with whole_files([out], replace) as (partial,):
        yield partial


@contextmanager
def whole_files(outs: Sequence[Path], replace: bool = True) -> Iterator[list[Path]]:
    """Names to write to that become `outs`, all together, on success, and vanish on failure.

    The content reaches the disk before the name does, so that a power cut leaves the old file or the new one. Of an
    output that is a symbolic link the file it leads to is replaced, and the link stays. A file that is replaced leaves
    its mode to its successor, and its owner where the system allows that.

    Args:
        outs: the files.
        replace: whatever is there is replaced. Otherwise only what this program wrote, see `runtime.files.replaceable`.

    Raises:
        InputError: an output is no regular file, or `replace` is false and a file of someone else appeared at the name
            since it was checked. The results are then kept beside it under names that the error gives.
    """
    targets = [real_path(out) for out in outs]
    partials = [_partial(target) for target in targets]
    try:
        for partial, target in zip(partials, targets, strict=True):
            # What replaces a private file is private from its first byte on.
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if target.exists() else 0o666))
        yield partials
        for partial in partials:
            sync(partial)
        reasons = [reason for out in outs if (reason := obstacle(out, replace))]
        if reasons:
            raise InputError(f"{' '.join(reasons)} {_kept(partials, targets)}")
        for partial, target in zip(partials, targets, strict=True):
            _inherit(target, partial)
            partial.replace(target)
        if os.name == "posix":
            for folder in {target.parent for target in targets}:
                sync(folder)
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


def put_folder(stage: Path, out: Path, aside: Path) -> None:
    """Rename a finished folder to `out`; a folder that is there is removed once its successor is in place.

    Args:
        stage: the finished folder, beside `out`.
        out: the final name; a folder, or nothing.
        aside: a free name for the old folder meanwhile, beside `out`.

    Raises:
        OSError: it cannot be renamed; what was there is back in its place.
    """
    if not out.exists():
        stage.rename(out)
        return
    out.rename(aside)
    try:
        stage.rename(out)
    except OSError:
        aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial(target: Path) -> Path:
    """A hidden name beside the file, of this call alone."""
    name = target.name
    while len(os.fsencode(name)) > _KEPT_BYTES:
        name = name[:-1]
    return target.with_name(f".{name}{PARTIAL}{os.getpid()}.{next(_NUMBERS)}")


def _inherit(target: Path, partial: Path) -> None:
    """Give the mode and the owner of the file that is there to its successor."""
    try:
        old = target.stat()
    except FileNotFoundError:
        return
    new = partial.stat()
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with contextlib.suppress(OSError, AttributeError):  # another user's; Windows has no such owners
            os.chown(partial, old.st_uid, old.st_gid)
    partial.chmod(stat.S_IMODE(old.st_mode))


def _kept(partials: Sequence[Path], targets: Sequence[Path]) -> str:
    """Give finished files free names, so that the work is not lost, and say which."""
    names = []
    for partial, target in zip(partials, targets, strict=True):
        free = target.with_name(f"{partial.name.rpartition(PARTIAL)[2]}-{target.name}")
        partial.rename(free)
        names.append(str(free))
    return f"The result is in {' and '.join(names)}."
