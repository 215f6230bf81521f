"""Write embeddings to disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError, MissingExtraError

__all__ = ["OUTPUT_SUFFIXES", "check_output", "write_array", "write_embeddings"]

OUTPUT_SUFFIXES = (".npy", ".parquet")


def check_output(out: Path, suffixes: Sequence[str] = OUTPUT_SUFFIXES) -> None:
    """Fail before the work rather than after it.

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
    with _whole(out) as partial, partial.open("wb") as stream:
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
        with _whole(id_file) as partial:
            partial.write_bytes(lines.encode("utf-8", "surrogateescape"))
        write_array(out, embeddings)
        return [out, id_file]
    import pyarrow
    import pyarrow.parquet

    unicode_ids = [identity.encode("utf-8", "backslashreplace").decode("utf-8") for identity in ids]
    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), embeddings.shape[1])
    table = pyarrow.table({"id": pyarrow.array(unicode_ids, pyarrow.string()), "embedding": column})
    with _whole(out) as partial:
        pyarrow.parquet.write_table(table.replace_schema_metadata(dict(metadata)), partial)
    return [out]


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A name to write to that becomes `out` on success and vanishes on failure."""
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
