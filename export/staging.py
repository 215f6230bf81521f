"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from export.errors import DestinationError
from runtime.manifest import MANIFEST_NAME

__all__ = ["staged"]


@contextmanager
def staged(out: Path, force: bool, note: Callable[[str], None]) -> Iterator[Path]:
    """Give a hidden folder beside `out` that becomes `out` on success and vanishes on failure.

    Folders that killed processes left beside the same `out` are removed first.

    Args:
        out: the final folder; it must not exist, unless it is empty, or `force` and it is a bundle.
        force: replace an existing bundle, once the new one is complete.
        note: called with a line for the user when something is removed.

    Yields:
        An existing, empty folder to write into.

    Raises:
        DestinationError: `out` cannot be written or must not be replaced.
    """
    if not out.name:
        raise DestinationError(f"'{out}' has no name; give --out a new folder, such as bundles/biovil.")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not force:
            raise DestinationError(f"{out} already exists. Choose another --out, or replace the bundle with --force.")
        if not (out / MANIFEST_NAME).is_file():
            raise DestinationError(
                f"{out} is not a bundle (it has no {MANIFEST_NAME}), so --force does not replace it."
            )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out, note)
        stage = out.parent / f".{out.name}.partial-{os.getpid()}-{secrets.token_hex(4)}"
        stage.mkdir()
    except OSError as error:
        raise DestinationError(f"{out} cannot be written: {error}") from error
    try:
        yield stage
        old = None
        if out.exists():
            old = stage.with_name(stage.name + "-replaced")
            out.rename(old)
        stage.rename(out)
        if old is not None:
            shutil.rmtree(old)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _remove_leftovers(out: Path, note: Callable[[str], None]) -> None:
    """Delete what exports to the same place left behind when they were killed."""
    for leftover in out.parent.glob(f".{out.name}.partial-*"):
        owner = leftover.name.removeprefix(f".{out.name}.partial-").split("-")[0]
        if not (owner.isdigit() and _alive(int(owner))):
            note(f"removing {leftover.name}, left by an export that was killed")
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
