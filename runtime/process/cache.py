"""Folders for what can be made again: TensorRT's engines, OpenVINO's compiled models, what libraries keep."""

from __future__ import annotations

import functools
import logging
import os
import sys
import tempfile
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "cache_folder", "cache_path", "cache_root", "home_folder"]

CACHE_VARIABLE = "CXR_ENGINE_CACHE"
_NAME = "cxr-engine"
_LOG = logging.getLogger("runtime")


def cache_folder(kind: str, root: Path | None = None) -> Path | None:
    """The user's cache folder for one kind of file, created where it is missing, readable by the user alone.

    The environment variable CXR_ENGINE_CACHE names the root; else it is $XDG_CACHE_HOME/cxr-engine or
    ~/.cache/cxr-engine, on macOS ~/Library/Caches/cxr-engine, on Windows %LOCALAPPDATA%/cxr-engine.

    Args:
        kind: name of the folder inside, such as "tensorrt".
        root: the root, where `cache_root` found it before.

    Returns:
        The folder; None where it cannot be created or written, which a warning of the logger "runtime" says once.
    """
    root = root or cache_root()
    if root is None:
        _warn_once("no home folder was found")
        return None
    folder = root / kind
    try:
        # Compiled models are code that engines run: nobody else may put any there.
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        _warn_once(f"{root} cannot be written ({error})")
        return None
    return folder


def cache_path(kind: str) -> Path | None:
    """Where `cache_folder` would have it, whether it is there or not; None for a user without a home."""
    root = cache_root()
    return root and root / kind


def cache_root() -> Path | None:
    """The root of the cache folders by this moment's environment, absolute; None for a user without a home."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).absolute()
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    # The XDG base directory specification has relative paths ignored.
    if base and Path(base).is_absolute() and sys.platform != "darwin":
        return Path(base) / _NAME
    home = home_folder()
    if home is None:
        return None
    middle = {"darwin": "Library/Caches", "win32": "AppData/Local"}.get(sys.platform, ".cache")
    return home / middle / _NAME


def home_folder() -> Path | None:
    """The user's home folder; None where there is none, as for a user of a container who is named by number."""
    try:
        home = Path.home()
        # Whoever has no home is often given one that is not there. It is not for us to create.
        return home if home.is_absolute() and home.is_dir() else None
    except (RuntimeError, KeyError, OSError):  # neither HOME nor an entry for the user; one that cannot be entered
        return None


@functools.cache
def _warn_once(fault: str) -> None:
    _LOG.warning(
        "No cache: %s. What engines compile is compiled anew each time; name a folder with %s.", fault, CACHE_VARIABLE
    )
