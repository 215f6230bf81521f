"""Digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["sha256_file"]


def sha256_file(path: Path) -> str:
    """SHA-256 of a file as lower-case hex, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    block = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()
