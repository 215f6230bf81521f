"""The keys that clients show."""

from __future__ import annotations

import hashlib
import hmac
import stat
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import InputError
from runtime.process import print_note

__all__ = ["Keys"]

_MOST_BYTES = 1 << 20


class Keys:
    """The keys of a file: one a line; empty lines and those that begin with # are passed over.

    Only digests are kept. Not safe to read while another thread reloads, which nobody does: both are the event loop's.
    """

    def __init__(self, file: Path) -> None:
        """Read the file.

        Args:
            file: of keys. That other users of the machine can read it is said on standard error.

        Raises:
            InputError: it cannot be read, or holds no key.
        """
        self._file = file.absolute()
        self._digests = _read(self._file)

    def __len__(self) -> int:
        return len(self._digests)

    def admit(self, given: bytes) -> bool:
        """Whether this is one of the keys; takes as long whichever it is, and whether it is one or not."""
        digest = hashlib.sha256(given).digest()
        return bool(sum(hmac.compare_digest(digest, each) for each in self._digests))  # all are compared

    def reload(self) -> None:
        """Read the file again; where that fails, the keys stay and InputError is raised."""
        self._digests = _read(self._file)


def _read(file: Path) -> Sequence[bytes]:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
            mode = file.stat().st_mode
    except OSError as error:
        raise InputError(f"The keys in {file} cannot be read: {error.strerror or error}.") from None
    if len(content) > _MOST_BYTES:
        raise InputError(f"{file} is larger than {_MOST_BYTES >> 20} MiB; a file with one key a line is expected.")
    lines = [line.strip() for line in content.removeprefix(b"\xef\xbb\xbf").splitlines()]
    keys = [line for line in lines if line and not line.startswith(b"#")]
    if not keys:
        raise InputError(f"{file} holds no key; one a line is expected.")
    if mode & stat.S_IROTH:
        print_note(f"Other users of this machine can read the keys in {file}: chmod 600 {file}")
    return tuple(hashlib.sha256(key).digest() for key in dict.fromkeys(keys))
