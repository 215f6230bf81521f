"""What every command that writes asks before its work begins: may these files be written?

Two files are the same where the system says so (device and number), whatever they are called: relative paths, hard and
symbolic links and file systems that ignore case need no rules of their own. A file that is not there is no input.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from runtime.errors import InputError
from runtime.files.replaceable import obstacle
from runtime.process.console import result_descriptor

__all__ = ["check_destinations", "check_folder_destination", "files_below"]

_Identity = tuple[int, int]
_NONE = (-1, -1)


def check_destinations(
    files: Mapping[str, Path | None],
    inputs: Iterable[str | os.PathLike[str]],
    *,
    sealed: Iterable[str | os.PathLike[str]] = (),
    force: bool = False,
) -> None:
    """Fail before the work rather than after it.

    Args:
        files: what will be written, by the option that names it; None is passed over.
        inputs: paths of all files that are read; "-" is standard input, and what is not there is passed over. They are
            gone through only where one of the files is there already.
        sealed: folders that are read and that nothing is added to: a bundle, an index.
        force: replace regular files that this program did not write.

    Raises:
        InputError: a file is an input, or another output, or is where standard output goes; it lies in a sealed folder;
            it is no regular file; or it is there, was not written by this program, and `force` is not given.
    """
    named = {f"{option} {file}": file for option, file in files.items() if file is not None}
    _compare(named, inputs, sealed)
    for name, file in named.items():
        reason = obstacle(file, force)
        if reason is not None:
            forced = "" if obstacle(file, replace=True) else ", or replace it with --force"
            raise InputError(f"{name.removesuffix(str(file))}{reason} Give another file{forced}.")


def check_folder_destination(
    out: Path,
    inputs: Iterable[str | os.PathLike[str]],
    sealed: Iterable[str | os.PathLike[str]] = (),
    option: str = "--out",
) -> None:
    """Fail before files are written to a folder, or it is replaced; what it holds is compared with the inputs.

    Args:
        out: the folder; it may not be there yet.
        inputs: see `check_destinations`; so is sealed.
        option: that names the folder.

    Raises:
        InputError: it is or holds an input, or lies in a sealed folder; "-", which is no folder.
    """
    if os.fspath(out) == "-":
        raise InputError(f"{option} - would be standard output, which cannot take a folder. Give the folder a name.")
    named = {f"{option} {out}": out} | {f"{file} in {option} {out}": file for file in files_below(out)}
    _compare(named, inputs, sealed)


def files_below(folder: str | os.PathLike[str]) -> list[Path]:
    """The files in a folder and its subfolders; none where there is no folder, or none that can be read."""
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]


def _compare(
    named: Mapping[str, Path], inputs: Iterable[str | os.PathLike[str]], sealed: Iterable[str | os.PathLike[str]]
) -> None:
    existing: dict[_Identity, str] = {}
    places: dict[str, str] = {}
    folders = [os.fspath(folder) for folder in sealed]
    for name, file in named.items():
        identity = _identity(file)
        place = os.path.realpath(file)
        same = places.setdefault(place, name) if identity is None else existing.setdefault(identity, name)
        if same != name:
            raise InputError(f"{same} and {name} are the same file. Give each a file of its own.")
        for folder in folders:
            if Path(place).is_relative_to(os.path.realpath(folder)):
                raise InputError(f"{name} lies in {folder}, which nothing is added to. Give another place.")
    if not existing:
        return
    for stream, number in (("standard output", result_descriptor()), ("standard error", 2)):
        found = existing.get(_opened(number) or _NONE)
        if found is not None:
            raise InputError(f"{found} is where {stream} goes. Give another file.")
    for each in chain(inputs, *map(files_below, folders)):
        found = existing.get(_identity(each) or _NONE)
        if found is not None:
            called = "standard input" if os.fspath(each) == "-" else os.fspath(each)
            link = "" if found.endswith(f" {called}") else f", {called}, by another name"
            raise InputError(f"{found} would overwrite an input{link}. Give another file.")


def _identity(path: str | os.PathLike[str]) -> _Identity | None:
    if os.fspath(path) == "-":
        return _opened(0)
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _opened(number: int) -> _Identity | None:
    """The regular file behind a standard stream."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None
