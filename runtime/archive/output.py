"""Write embeddings to disk: in one file here, in a folder of parts in `archive.py`."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError, MissingExtraError
from runtime.files.replaceable import NPY_PADDING, real_path
from runtime.files.whole_file import whole_file, whole_files

__all__ = [
    "OUTPUT_SUFFIXES",
    "check_output",
    "clean_id",
    "embedding_column",
    "ids_file",
    "is_folder_output",
    "write_array",
    "write_embeddings",
]

OUTPUT_SUFFIXES = (".npy", ".parquet")


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
    folder = real_path(out).parent
    if not folder.is_dir():
        raise InputError(f"{out} cannot be written: the folder {folder} does not exist. Create it first.")
    if out.is_dir():
        raise InputError(f"{out} cannot be written: a folder of that name is in the way.")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{out} cannot be written: no permission to write in {folder}.")
    if out.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise MissingExtraError(f"Writing {out}", "pyarrow", "parquet") from None


def ids_file(out: Path) -> Path:
    """The file of ids beside a .npy file of embeddings."""
    return out.with_suffix(".ids.txt")


def write_array(out: Path, array: NDArray[np.float32], replace: bool = True) -> None:
    """Write one array as .npy; the file appears whole or not at all. For `replace` see `whole_files`."""
    with whole_file(out, replace) as partial:
        _save(partial, array)


def write_embeddings(
    out: Path,
    ids: Sequence[str],
    embeddings: NDArray[np.float32],
    metadata: Mapping[str, str],
    replace: bool = True,
) -> list[Path]:
    """Write embeddings with their ids; the files appear whole or not at all.

    Args:
        out: `NAME.npy` (float32 (N, D); the ids go to `NAME.ids.txt`, a line each) or `NAME.parquet` (columns `id` and
            `embedding`, a fixed-size list; the metadata goes to the schema).
        ids: N strings.
        embeddings: float32 (N, D).
        metadata: what made them.
        replace: see `whole_files`.

    Returns:
        The files written.
    """
    if out.suffix == ".npy":
        id_file = ids_file(out)
        # A line break inside an id would shift all ids after it. File names that are not Unicode keep their bytes.
        lines = "".join(" ".join(identity.splitlines()) + "\n" for identity in ids)
        with whole_files([id_file, out], replace) as (id_partial, partial):
            id_partial.write_bytes(lines.encode("utf-8", "surrogateescape"))
            _save(partial, embeddings)
        return [out, id_file]
    import pyarrow
    import pyarrow.parquet

    unicode_ids = pyarrow.array(map(clean_id, ids), pyarrow.string())
    table = pyarrow.table({"id": unicode_ids, "embedding": embedding_column(embeddings)})
    with whole_file(out, replace) as partial:
        pyarrow.parquet.write_table(table.replace_schema_metadata(dict(metadata)), partial)
    return [out]


def clean_id(identity: str) -> str:
    """An id as Parquet and JSON can hold it: bytes of file names that are not Unicode are written out."""
    return identity.encode("utf-8", "backslashreplace").decode("utf-8")


def embedding_column(embeddings: NDArray[np.float32]) -> Any:
    """float32 (N, D) as a pyarrow array of N fixed-size lists; needs pyarrow."""
    import pyarrow

    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), embeddings.shape[1])


def _save(file: Path, array: NDArray[np.float32]) -> None:
    """As `numpy.save`, with this program's mark: spaces at the end of the header, see `runtime.files.replaceable`."""
    contiguous = np.ascontiguousarray(array)
    plain = io.BytesIO()
    np.lib.format.write_array_header_1_0(plain, np.lib.format.header_data_from_array_1_0(contiguous))
    start = len(np.lib.format.magic(1, 0)) + 2
    header = plain.getvalue()[start:-1] + b" " * NPY_PADDING + b"\n"
    with file.open("wb") as stream:
        stream.write(np.lib.format.magic(1, 0) + len(header).to_bytes(2, "little") + header)
        contiguous.tofile(stream)
