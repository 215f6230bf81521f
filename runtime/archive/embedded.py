"""Read what `python -m runtime embed` wrote to Parquet, with what made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.archive.folder import JOB
from runtime.errors import Fault, InputError
from runtime.files import parse_json, read_json
from runtime.files.decode import decode
from runtime.files.parquet_rows import pyarrow_for

__all__ = ["Embedded", "are_embeddings", "read_embedded"]

_MADE_BY = ("family", "model_digest", "provider", "precision", "weights")
_COLUMNS = ("id", "embedding")


@dataclass(frozen=True)
class Embedded:
    """Embeddings of one model.

    Attributes:
        ids: of the items.
        rows: float32 (len(ids), D).
        family: of the bundle that made them.
        model_digest: see `runtime.archive.digests`.
        weights: sha256 of each weights file that the bundle was exported from.
        provider: inference engines that computed them, in a list with commas.
        precision: what they computed in, alike.
    """

    ids: list[str]
    rows: NDArray[np.float32]
    family: str
    model_digest: str
    weights: dict[str, str]
    provider: str
    precision: str


def are_embeddings(inputs: Sequence[str]) -> bool:
    """Whether inputs are files or folders that `embed` wrote; a Parquet table of texts is none.

    Raises:
        InputError: some are and some are not, or .npy, which does not say what made it.
        MissingExtraError: Parquet without pyarrow.
    """
    for name in inputs:
        if Path(name).suffix.lower() == ".npy":
            raise InputError(
                f"{name} does not say which model made it, so it cannot be indexed. Let embed write a folder."
            )
    kinds = {name: _is_embedded(Path(name)) for name in inputs}
    if len(set(kinds.values())) > 1:
        embedded = next(name for name, found in kinds.items() if found)
        other = next(name for name, found in kinds.items() if not found)
        raise InputError(f"{embedded} holds embeddings and {other} does not; give one sort of inputs.")
    return any(kinds.values())


def read_embedded(inputs: Sequence[str]) -> Embedded:
    """Read files and folders of embeddings, one after the other.

    Args:
        inputs: for which `are_embeddings` is true.

    Raises:
        InputError: files that cannot be read, were not written by `embed`, are of several models, or runs into a folder
            that were not finished; all of them are listed.
        MissingExtraError: no pyarrow.
    """
    faults: list[Fault] = []
    files: list[Path] = []
    for position, name in enumerate(inputs):
        path = Path(name)
        try:
            files += _parts(path) if path.is_dir() else [path]
        except ValueError as error:
            faults.append(Fault(position, name, str(error)))
    read: dict[str, tuple[list[str], NDArray[np.float32], dict[str, str]]] = {}
    for position, file in enumerate(files):
        try:
            read[str(file)] = _read(file)
        except (OSError, ValueError) as error:
            faults.append(Fault(position, str(file), str(error)))
    if not faults:
        faults = _other_models({name: made for name, (_, _, made) in read.items()})
    if faults:
        raise InputError.from_faults("inputs", faults, max(len(inputs), len(files)))
    made = [each for _, _, each in read.values()]
    return Embedded(
        [identity for ids, _, _ in read.values() for identity in ids],
        np.concatenate([rows for _, rows, _ in read.values()]),
        made[0]["family"],
        made[0]["model_digest"],
        decode(dict[str, str], parse_json(made[0]["weights"]), "weights"),
        *(", ".join(sorted({each[key] for each in made})) for key in ("provider", "precision")),
    )


def _is_embedded(path: Path) -> bool:
    if path.is_dir():
        return (path / JOB).exists()
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    pyarrow = pyarrow_for(path)
    try:
        names = pyarrow.parquet.read_schema(path).names
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # names of columns in other encodings
        raise InputError(f"{path} is not valid Parquet ({error}). Write it again.") from None
    return all(name in names for name in _COLUMNS)


def _parts(folder: Path) -> list[Path]:
    try:
        finished = read_json(folder / JOB)["finished"]
        expected = 0 if finished is None else decode(int, finished["parts"], "parts")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"its {JOB} cannot be read ({error})") from None
    if finished is None:
        raise ValueError("the run into it was not finished. Finish it with embed --resume")
    found = sorted(folder.glob("part-*.parquet"))
    if len(found) != expected:
        raise ValueError(f"has {len(found)} parts where {expected} were written")
    return found


def _read(file: Path) -> tuple[list[str], NDArray[np.float32], dict[str, str]]:
    pyarrow = pyarrow_for(file)
    try:
        table = pyarrow.parquet.read_table(file, columns=list(_COLUMNS))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"is not valid Parquet ({error}). Write it again") from None
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    lacking = [key for key in _MADE_BY if key not in metadata]
    if lacking:
        raise ValueError(f"does not say which model made it (no {lacking[0]} in its schema). Write it with embed")
    try:
        decode(dict[str, str], parse_json(metadata["weights"]), "weights")
    except ValueError as error:
        raise ValueError(f"does not say which model made it ({error}). Write it with embed") from None
    column = table["embedding"].combine_chunks()
    kind = column.type
    if not (pyarrow.types.is_fixed_size_list(kind) and pyarrow.types.is_float32(kind.value_type)):
        raise ValueError(f"its column 'embedding' is {kind}; fixed_size_list<float> is expected")
    if column.null_count or column.flatten().null_count or table["id"].null_count:
        raise ValueError("has rows without an id or an embedding")
    rows = column.flatten().to_numpy().reshape(-1, kind.list_size)
    return table["id"].to_pylist(), rows, {key: metadata[key] for key in _MADE_BY}


def _other_models(made: dict[str, dict[str, str]]) -> list[Fault]:
    first = next(iter(made))
    keys = ("family", "model_digest", "weights")
    return [
        Fault(position, name, f"was made by another model than {first} ({each['model_digest'][:16]}…)")
        for position, (name, each) in enumerate(made.items())
        if any(each[key] != made[first][key] for key in keys)
    ]
