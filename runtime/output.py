"""Write embeddings to disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError, MissingExtraError

__all__ = ["OUTPUT_SUFFIXES", "check_output", "write_embeddings"]

OUTPUT_SUFFIXES = (".npy", ".parquet")


def check_output(out: Path) -> None:
    """Fail before the work rather than after it.

    Raises:
        InputError: an unknown suffix, or a folder that does not exist.
        MissingExtraError: Parquet without pyarrow.
    """
    if out.suffix not in OUTPUT_SUFFIXES:
        raise InputError(f"--out {out} has the suffix '{out.suffix}'; .npy or .parquet is expected.")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist. Create it first.")
    if out.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise MissingExtraError(f"Writing {out}", "pyarrow", "parquet") from None


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
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    if out.suffix == ".npy":
        id_file = out.with_suffix(".ids.txt")
        with partial.open("wb") as stream:
            np.save(stream, embeddings)
        # A line break inside an id would shift all ids after it.
        lines = [" ".join(identity.splitlines()) + "\n" for identity in ids]
        id_partial = id_file.with_name(f".{id_file.name}.partial-{os.getpid()}")
        id_partial.write_text("".join(lines), encoding="utf-8")
        id_partial.replace(id_file)
        partial.replace(out)
        return [out, id_file]
    import pyarrow
    import pyarrow.parquet

    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), embeddings.shape[1])
    table = pyarrow.table({"id": pyarrow.array(list(ids), pyarrow.string()), "embedding": column})
    pyarrow.parquet.write_table(table.replace_schema_metadata(dict(metadata)), partial)
    partial.replace(out)
    return [out]
