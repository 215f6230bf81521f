"""Write embeddings to disk: in one file here, in a folder of parts in `archive.py`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError, MissingExtraError

__all__ = [
    "OUTPUT_SUFFIXES",
    "PARTIAL",
    "check_output",
    "clean_id",
    "embedding_column",
    "is_folder_output",
    "whole_file",
    "write_array",
    "write_embeddings",
]

OUTPUT_SUFFIXES = (".npy", ".parquet")
# In the names of files that are being written; what a killed process leaves has it too.
PARTIAL = ".partial-"


def is_folder_output(out: str) -> bool:
    """Whether a name means a folder of parts: it ends with a slash, has no suffix, or is a folder already.

    An existing folder called NAME.npy is more likely a mistake: it needs the slash.
    """
    path = Path(out)
    return out.endswith(("/", os.sep)) or not path.suffix or (path.is_dir() and path.suffix != ".npy")


def check_output(out: Path, suffixes: Sequence[str] = OUTPUT_SUFFIXES) -> None:
    """Fail before the work rather than after it; for single files.

    Args:
        out: the file to be written.
        suffixes: those that can be.

    Raises:
        InputError: another suffix, a folder that does not exist or cannot be written, a folder of that name.
        MissingExtraError: Parquet without pyarrow.
    """
    if out.suffix not in suffixes:
        raise InputError(f"{out} has the suffix '{out.suffix}'; {' or '.join(suffixes)} is expected.")
    if not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: the folder {out.parent} does not exist. Create it first.")
    if out.is_dir():
        raise InputError(f"{out} cannot be written: a folder of that name is in the way.")
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"{out} cannot be written: no permission to write in {out.parent}.")
    if out.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise MissingExtraError(f"Writing {out}", "pyarrow", "parquet") from None


def write_array(out: Path, array: NDArray[np.float32]) -> None:
    """Write one array as .npy; the file appears whole or not at all."""
    with whole_file(out) as partial, partial.open("wb") as stream:
        np.save(stream, array)


def write_embeddings(
    out: Path, ids: Sequence[str], embeddings: NDArray[np.float32], metadata: Mapping[str, str]
) -> list[Path]:
    """Write embeddings with their ids; each file appears whole or not at all.

    Args:
        out: `NAME.npy` (float32 (N, D); the ids go to `NAME.ids.txt`, a line each) or `NAME.parquet` (columns `id` and
            `embedding`, a fixed-size list; the metadata goes to the schema).
        ids: N strings.
        embeddings: float32 (N, D).
        metadata: what made them.

    Returns:
        The files written.
    """
    if out.suffix == ".npy":
        id_file = out.with_suffix(".ids.txt")
        # A line break inside an id would shift all ids after it. File names that are not Unicode keep their bytes.
        lines = "".join(" ".join(identity.splitlines()) + "\n" for identity in ids)
        with whole_file(id_file) as partial:
            partial.write_bytes(lines.encode("utf-8", "surrogateescape"))
        write_array(out, embeddings)
        return [out, id_file]
    import pyarrow
    import pyarrow.parquet

    unicode_ids = pyarrow.array(map(clean_id, ids), pyarrow.string())
    table = pyarrow.table({"id": unicode_ids, "embedding": embedding_column(embeddings)})
    with whole_file(out) as partial:
        pyarrow.parquet.write_table(table.replace_schema_metadata(dict(metadata)), partial)
    return [out]


def clean_id(identity: str) -> str:
    """An id as Parquet and JSON can hold it: bytes of file names that are not Unicode are written out."""
    return identity.encode("utf-8", "backslashreplace").decode("utf-8")


def embedding_column(embeddings: NDArray[np.float32]) -> Any:
    """float32 (N, D) as a pyarrow array of N fixed-size lists; needs pyarrow."""
    import pyarrow

    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), embeddings.shape[1])


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """A name to write to that becomes `out` on success and vanishes on failure.

    The content reaches the disk before the name does, so that a power cut leaves the old file or the new one.
    """
    partial = out.with_name(f".{out.name}{PARTIAL}{os.getpid()}")
    try:
        yield partial
        sync(partial)
        partial.replace(out)
        if os.name == "posix":
            sync(out.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
