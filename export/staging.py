"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from export.errors import DestinationError
from runtime.bundle import MANIFEST_NAME
from runtime.files.whole_file import put_folder

__all__ = ["staged"]


@contextmanager
def staged(
    out: Path, force: bool, note: Callable[[str], None], *, mark: str = MANIFEST_NAME, what: str = "bundle"
) -> Iterator[Path]:
    """Give a hidden folder beside `out` that becomes `out` on success and vanishes on failure.

    Folders that killed processes left beside the same `out` are removed first.

    Args:
        out: the final folder; it must not exist, unless it is empty, or `force` and it is what is to be written.
        force: replace an existing one, once the new one is complete.
        note: called with a line for the user when something is removed.
        mark: file that such a folder has.
        what: it is, in words.

    Yields:
        An existing, empty folder to write into.

    Raises:
        DestinationError: `out` cannot be written or must not be replaced.
    """
    if not out.name:
        raise DestinationError(f"'{out}' has no name; give --out a new folder, such as bundles/biovil.")
    if out.is_symlink():
        raise DestinationError(f"{out} is a symbolic link. Give --out the folder itself: {out.resolve()}")
    try:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            if not force:
                raise DestinationError(
                    f"{out} already exists. Choose another --out, or replace the {what} with --force."
                )
            if not (out / mark).is_file():
                raise DestinationError(f"{out} is not a {what} (it has no {mark}), so --force does not replace it.")
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out, note)
        stage = _hidden(out, "partial")
        stage.mkdir()
    except OSError as error:
        raise DestinationError(f"{out} cannot be written: {error}") from error
    try:
        yield stage
        _let_be_read(stage)
        _put_in_place(stage, out)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _let_be_read(stage: Path) -> None:
    """Give every file the mode that the user's umask leaves, which the folder has.

    onnx writes weights for their owner alone, and a server that runs as another user could not read them.
    """
    mode = stage.stat().st_mode & 0o666
    for file in stage.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def _put_in_place(stage: Path, out: Path) -> None:
    try:
        put_folder(stage, out, _hidden(out, "replaced"))
    except OSError as error:
        raise DestinationError(f"{out} cannot be written: {error}") from error


def _hidden(out: Path, state: str) -> Path:
    """A name beside `out` that says whose it is."""
    return out.parent / f".{out.name}.{state}~{socket.gethostname()}~{os.getpid()}~{secrets.token_hex(4)}"


def _remove_leftovers(out: Path, note: Callable[[str], None]) -> None:
    """Delete what exports to the same place left behind when they were killed on this machine."""
    for leftover in [*out.parent.glob(f".{out.name}.partial~*"), *out.parent.glob(f".{out.name}.replaced~*")]:
        _, host, process, _ = leftover.name.rsplit("~", 3)
        # A replaced bundle is only rubbish once its successor is in place.
        wanted = ".replaced~" in leftover.name and not out.exists()
        if host == socket.gethostname() and not wanted and not _alive(int(process)):
            note(f"removing {leftover.name}, left by an export that was killed")
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(process: int) -> bool:
    """Whether a process other than this one runs under that number."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
