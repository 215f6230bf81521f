"""Arguments of Python callers: each kind is checked in one place, and what is not accepted is said in one way.

Everything here raises `InputError` that names the argument, what came and what is expected. Nothing is looked at item
by item that need not be: checking 2,000 texts costs what copying the list does.

Where many things may come, they may come in whatever holds things in an order: lists, tuples, iterators, arrays, and
the columns of pandas, polars and pyarrow, which are known by their methods and never imported. Refused is what Python
would iterate over without a word although its items are not what was meant: dictionaries (their keys), tables (the
names of their columns), bytes (numbers), open files (lines with their ends); and sets, which have no order.
"""

from __future__ import annotations

import array
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError

__all__ = [
    "TEXTS",
    "array_of",
    "callback",
    "flag",
    "is_file",
    "is_mapping",
    "is_table",
    "items_of",
    "missing",
    "number",
    "one_of",
    "one_text",
    "path_of",
    "shown",
    "taken",
    "texts_of",
    "whole_number",
]

_NAME_LENGTH = 40
_BYTES = (bytes, bytearray, memoryview, array.array)
TEXTS = "a str or a list of str"


def shown(value: object) -> str:
    """A value's beginning, on one line, as errors quote it."""
    try:
        written = " ".join(repr(value).split()) if not isinstance(value, str) else repr(value)
    except Exception:  # an int of too many digits, or an object that cannot be shown
        written = f"a {type(value).__name__} that cannot be shown"
    return written if len(written) <= _NAME_LENGTH else written[: _NAME_LENGTH - 1] + "…"


def missing(value: object) -> str:
    """What an item of a wrong type is called: "a list"; of a table's empty cell "a float (a missing value)"."""
    kind = type(value).__name__
    empty = value is None or kind in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))
    return f"a {kind} (a missing value)" if empty else f"a {kind}"


def whole_number(name: str, value: Any, least: int | None = 1, most: int | None = None, instead: str = "") -> int:
    """An int, also numpy's; never a bool, which Python would take for 0 or 1.

    Args:
        name: of the argument.
        value: what came.
        least: smallest that is accepted; None where there is no such bound.
        most: largest that is accepted; None where there is no such bound.
        instead: what else is accepted, as the end of a sentence: ", or None for all processors".
    """
    bounds = [f"at least {least}"] if least is not None else []
    bounds += [f"at most {most:,}"] if most is not None else []
    expected = f"a whole number{' of ' if bounds else ''}{' and '.join(bounds)} is expected{instead}."
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise InputError(f"{name}={shown(value)}; {expected}") from None
    if (least is not None and found < least) or (most is not None and found > most):
        raise InputError(f"{name}={shown(found)}; {expected}")
    return found


def number(name: str, value: Any, expected: str, within: Callable[[float], bool] = math.isfinite) -> float:
    """A finite int or float, also numpy's, that `within` accepts; no bool, no str.

    Args:
        name: of the argument.
        value: what came.
        expected: what is, with its article.
        within: the range.
    """
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found) and within(found):
            return found
    raise InputError(f"{name}={shown(value)}; {expected} is expected.")


def flag(name: str, value: Any) -> bool:
    """True or False, also numpy's: "no" would count as true."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise InputError(f"{name}={shown(value)}; True or False is expected.")


def one_of(name: str, value: Any, names: Iterable[str]) -> str:
    """One of some names."""
    listed = list(names)
    if isinstance(value, str) and value in listed:
        return str(value)
    raise InputError(f"{name}={shown(value)}; {' or '.join(map(repr, listed))} is expected.")


def one_text(name: str, value: Any) -> str:
    """A str."""
    if isinstance(value, str):
        return str(value)
    raise InputError(f"{name}={shown(value)}; a str is expected.")


def path_of(name: str, value: Any) -> Path:
    """A path, given as str or os.PathLike."""
    if isinstance(value, (str, os.PathLike)):
        return Path(os.fsdecode(value))
    raise InputError(f"{name}={shown(value)}; a path is expected: a str or a pathlib.Path.")


def callback(name: str, value: Any) -> Any:
    """Something that can be called, or None."""
    if value is None or callable(value):
        return value
    raise InputError(f"{name}={shown(value)}; a function of one argument, or None, is expected.")


def array_of(name: str, value: Any, expected: str, kinds: str = "fiub") -> NDArray[Any]:
    """A numpy array of what can be made one: nested lists of equal lengths, tensors in the processor's memory.

    Args:
        name: of the argument.
        value: what came.
        expected: what is, for the message.
        kinds: of its dtype, see `numpy.dtype.kind`.
    """
    try:
        found = np.asarray(value)
    except Exception as error:  # ragged lists, tensors on a GPU: what foreign code raises is of any kind
        kind = type(value).__name__
        raise InputError(
            f"{name} is a {kind} of which no array can be made ({error}); {expected} is expected."
        ) from None
    if found.dtype.kind not in kinds:
        came = "" if isinstance(value, np.ndarray) else f"a {type(value).__name__} of "
        raise InputError(f"{name} is {came}{found.dtype} {found.shape}; {expected} is expected.")
    return found


def is_file(value: object) -> bool:
    """Whether this is an open file, or what can be read as one."""
    return callable(getattr(value, "read", None))


def is_mapping(value: object) -> bool:
    """Whether this is a dictionary or the like (a DICOM dataset): Python iterates over its keys.

    A column of pandas has keys as well, but its values are no method.
    """
    kind = type(value)
    return isinstance(value, Mapping) or (hasattr(kind, "keys") and callable(getattr(kind, "values", None)))


def is_table(value: object) -> bool:
    """Whether this is a table of pandas, polars, pyarrow or the like, of which Python iterates over the columns."""
    return hasattr(type(value), "columns") or hasattr(type(value), "__dataframe__")


def texts_of(texts: Any) -> list[Any]:
    """A text or many as a list, at least one; what its items are is not looked at."""
    listed = items_of(texts, "texts", TEXTS)
    if not listed:
        raise InputError("The list of texts is empty; at least one text is expected.")
    return listed


def items_of(values: Any, what: str, expected: str, *, name: str = "", ordered: bool = True) -> list[Any]:
    """The items of whatever holds things in an order; a str is one item.

    Args:
        values: what came; an iterator is used up.
        what: the items, in the plural: "texts".
        expected: what they are, for the message: "a str or a list of str".
        name: of the argument, where there are several.
        ordered: whether their order matters; otherwise sets are accepted.
    """
    return list(taken(values, what, expected, name=name, ordered=ordered))


def taken(values: Any, what: str, expected: str, *, name: str = "", ordered: bool = True) -> Iterable[Any]:
    """As `items_of`, but what can be iterated over is not yet; for streams without end."""
    if isinstance(values, str):
        return (values,)
    if isinstance(values, np.ndarray):
        return _items_of_array(values, what, expected)
    kind = type(values)
    came = f"{name} is a {kind.__name__}; " if name else f"A {kind.__name__} came where "
    came += f"{what} are expected: {expected}."
    if is_mapping(values):
        raise InputError(f"{came} Choose from it what is meant: its keys would be taken for the {what}.")
    if is_table(values):
        raise InputError(f"{came} Choose one of its columns.")
    if isinstance(values, (set, frozenset)) and ordered:
        raise InputError(f"{came} A set has no order, so that nothing tells which answer is whose. Pass a list.")
    if isinstance(values, _BYTES):
        raise InputError(f"{came} Decode it: .decode('utf-8').")
    if is_file(values):
        raise InputError(f"{came} Read it, and say whether each line is an item: .read().splitlines().")
    if hasattr(kind, "to_pylist"):  # pyarrow's, whose items are objects of its own
        return list(values.to_pylist())
    if hasattr(kind, "__array__"):
        return _items_of_array(array_of(what, values, expected, kinds="fiubcmMOSUTV"), what, expected)
    if not isinstance(values, Iterable):
        raise InputError(came)
    return values


def _items_of_array(values: NDArray[Any], what: str, expected: str) -> list[Any]:
    if values.ndim > 1 or values.dtype.kind == "V":
        raise InputError(f"An array {values.dtype} {values.shape} came where {what} are expected: {expected}; (N,) is.")
    return [values.item()] if values.ndim == 0 else list(values.tolist())
