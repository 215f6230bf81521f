"""One process writes to an output folder at a time."""

from __future__ import annotations

from io import TextIOWrapper
from pathlib import Path

from runtime.errors import InputError
from runtime.process import print_note

__all__ = ["LOCK", "lock_folder"]

LOCK = ".lock"


def lock_folder(folder: Path) -> TextIOWrapper:
    """Open a folder's lock file and hold its lock until it is closed, or the process ends.

    Where the system is not POSIX nothing guards the folder; where its file system cannot lock, stderr says so.

    Raises:
        InputError: another process holds it.
    """
    stream = (folder / LOCK).open("a")
    try:
        import fcntl
    except ImportError:
        return stream
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise InputError(f"Another process is writing to {folder}. Wait until it ends, or end it.") from None
    except OSError as error:  # some network file systems
        print_note(f"{folder} cannot be locked ({error.strerror}): let no other run write there.")
    return stream
