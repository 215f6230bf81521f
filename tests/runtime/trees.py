"""Folders for tests: files that are images by their first bytes, what folders hold, and the file system's order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DICOM = bytes(128) + b"DICM"
PNG = b"\x89PNG\r\n\x1a\n"


def write_tree(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    """Paths below a folder → what the files hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scan_in_order(monkeypatch: pytest.MonkeyPatch, backwards: bool) -> None:
    """Let folders be listed in the order of names, or against it."""
    scandir: Callable[..., Iterator[os.DirEntry[str]]] = os.scandir

    @contextmanager
    def sorted_scandir(path: object) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(path) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name, reverse=backwards))

    monkeypatch.setattr(os, "scandir", sorted_scandir)
