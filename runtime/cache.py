"""Folders for what engines compile and can compile again: TensorRT's engines, OpenVINO's compiled models."""

from __future__ import annotations

import functools
import logging
import os
import sys
import tempfile
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "cache_folder", "cache_path"]

CACHE_VARIABLE = "CXR_ENGINE_CACHE"
_NAME = "cxr-engine"
_LOG = logging.getLogger("runtime")


def cache_folder(kind: str) -> Path | None:
    """The user's cache folder for one kind of file, created where it is missing, readable by the user alone.

    The environment variable CXR_ENGINE_CACHE names the root; else it is $XDG_CACHE_HOME/cxr-engine or
    ~/.cache/cxr-engine, on macOS ~/Library/Caches/cxr-engine, on Windows %LOCALAPPDATA%/cxr-engine.

    Args:
        kind: name of the folder inside, such as "tensorrt".

    Returns:
        The folder; None where it cannot be created or written, which a warning of the logger "runtime" says once.
    """
    root = _root()
    if root is None:
        _warn_once("home", "the user has no home folder")
        return None
    folder = root / kind
    try:
        # Compiled models are code that engines run: nobody else may put any there.
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        _warn_once(str(folder), str(error))
        return None
    return folder


def cache_path(kind: str) -> Path | None:
    """Where `cache_folder` would have it, whether it is there or not; None for a user without a home."""
    root = _root()
    return root and root / kind


def _root() -> Path | None:
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).absolute()
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    # The XDG base directory specification has relative paths ignored.
    if base and Path(base).is_absolute() and sys.platform != "darwin":
        return Path(base) / _NAME
    try:
        home = Path.home()
    except RuntimeError:
        return None
    middle = {"darwin": "Library/Caches", "win32": "AppData/Local"}.get(sys.platform, ".cache")
    return home / middle / _NAME


@functools.cache
def _warn_once(folder: str, reason: str) -> None:
    _LOG.warning(
        "No cache in %s: %s. Engines are compiled anew each time; name another folder with %s.",
        folder,
        reason,
        CACHE_VARIABLE,
    )
