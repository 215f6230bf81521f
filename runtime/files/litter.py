"""Files and folders that systems and programs leave beside the user's own: passed over by name, whatever they hold.

Some look like images: AppleDouble files have their names, file servers keep thumbnails, trash holds what was deleted.
"""

from __future__ import annotations

import fnmatch
import re

__all__ = ["why_litter"]

_HIDDEN = "hidden"
# Names, of either case → reasons. "hidden" stands last: what is known gets its own reason.
_FILES = {
    "._*": "AppleDouble, macOS's notes",
    ".ds_store": "macOS's notes",
    "icon\r": "macOS's notes",
    "thumbs.db": "thumbnails of Windows",
    "ehthumbs*.db": "thumbnails of Windows",
    "desktop.ini": "settings of Windows",
    "dicomdir": "DICOMDIR",
    ".*.partial-*": "unfinished file of this program",
    ".*": _HIDDEN,
}
_FOLDERS = {
    "__macosx": "macOS's notes",
    "@eadir": "thumbnails of a file server",
    "[#@]recycle": "trash",
    "$recycle.bin": "trash",
    ".trash*": "trash",
    "[#~]snapshot": "snapshots of a file server",
    ".snapshot*": "snapshots of a file server",
    ".zfs": "snapshots of a file server",
    "system volume information": "records of Windows",
    "lost+found": "lost+found of the file system",
    ".git": "version control",
    ".svn": "version control",
    ".hg": "version control",
    ".*": _HIDDEN,
}


def _compiled(table: dict[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(fnmatch.translate(name)), reason) for name, reason in table.items()]


_TABLES = {False: _compiled(_FILES), True: _compiled(_FOLDERS)}


def why_litter(name: str, is_folder: bool, dot_meant: bool = False) -> str | None:
    """Why a file or folder is passed over by its name; None where it is not.

    Args:
        name: without the folder it lies in.
        is_folder: which it is.
        dot_meant: names that begin with a dot were asked for, so that being hidden alone is no reason.
    """
    lower = name.lower()
    for pattern, reason in _TABLES[is_folder]:
        if pattern.match(lower) and not (dot_meant and reason == _HIDDEN):
            return reason
    return None
