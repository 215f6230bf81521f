"""Parquet → rows of the columns asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.errors import MissingExtraError

__all__ = ["Unreadable", "parquet_columns", "parquet_count", "parquet_rows", "pyarrow_for"]

_BATCH = 1024


class Unreadable:
    """Stands for a value that Python cannot hold: bytes in a text that are no UTF-8, a date of the year 200,000."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def parquet_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number, from 1, and values of each row; only the wanted columns are read: tables of reports carry images along.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no Parquet, or damaged.
        MissingExtraError: no pyarrow.
    """
    pyarrow = pyarrow_for(path)
    number = 0
    with path.open("rb") as stream, _named(pyarrow):
        file = pyarrow.parquet.ParquetFile(stream)
        for batch in file.iter_batches(_BATCH, columns=list(wanted)):
            columns = {name: _values(batch.column(index)) for index, name in enumerate(batch.schema.names)}
            columns = {name: columns[name] for name in wanted if name in columns}
            for index in range(batch.num_rows):
                number += 1
                yield number, {name: values[index] for name, values in columns.items()}
        if number != file.metadata.num_rows:
            raise ValueError(f"is not valid Parquet ({number} rows where it says {file.metadata.num_rows})")


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns, nested ones as a whole; raises as `parquet_rows`."""
    pyarrow = pyarrow_for(path)
    with path.open("rb") as stream, _named(pyarrow):
        return [str(name) for name in pyarrow.parquet.read_metadata(stream).schema.to_arrow_schema().names]


def parquet_count(path: Path) -> int:
    """Number of rows, as the file says; raises as `parquet_rows`."""
    pyarrow = pyarrow_for(path)
    with path.open("rb") as stream, _named(pyarrow):
        return int(pyarrow.parquet.read_metadata(stream).num_rows)


def pyarrow_for(path: Path) -> Any:
    """The package, for reading a file.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(f"Reading {path}", "pyarrow", "parquet") from None
    return pyarrow


@contextmanager
def _named(pyarrow: Any) -> Iterator[None]:
    """Any of these may come of broken content."""
    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"is not valid Parquet ({error}). Write it again") from None


def _values(column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except Exception:  # whatever it is, the other rows are told apart from it
        return [_value(scalar) for scalar in column]
    return values


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except Exception as error:  # pyarrow's, Python's, or that of a package that knows time zones
        return Unreadable(f"holds a {scalar.type} that cannot be read ({error})")
