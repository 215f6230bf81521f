"""What a property is: inputs of some kind, and what must hold for each of them."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

__all__ = ["Property", "mutated", "scratch_folder"]

_EDITS = 8
_LONGEST_PIECE = 16


@dataclass(frozen=True)
class Property:
    """One promise about a reader.

    Attributes:
        strategy: what inputs look like; None for the bytes of a file as they are, which mutate from `seeds`.
        check: raises where the promise is broken. Allowed are a value that an independent reader agrees with, and the
            project's own errors, which `check` therefore catches itself.
        seeds: whole files to begin with.
    """

    strategy: SearchStrategy[Any] | None
    check: Callable[[Any], None]
    seeds: Callable[[], Sequence[bytes]] = tuple

    def inputs(self) -> SearchStrategy[Any]:
        """The strategy, of files the seeds with a few bytes changed, put in, taken out or cut off."""
        return mutated(self.seeds()) if self.strategy is None else self.strategy


def mutated(seeds: Sequence[bytes]) -> SearchStrategy[bytes]:
    """One of the seeds as it is, or with up to eight changes of up to 16 bytes each."""
    return st.builds(_edit, st.sampled_from(sorted(seeds)), st.lists(_edits(), max_size=_EDITS))


def _edits() -> SearchStrategy[tuple[str, float, bytes]]:
    kind = st.sampled_from(("replace", "insert", "delete", "cut"))
    return st.tuples(kind, st.floats(0, 1), st.binary(min_size=1, max_size=_LONGEST_PIECE))


def _edit(seed: bytes, edits: Sequence[tuple[str, float, bytes]]) -> bytes:
    for kind, place, piece in edits:
        at = int(place * len(seed))
        before, after = seed[:at], seed[at:]
        if kind == "insert":
            seed = before + piece + after
        elif kind == "replace":
            seed = before + piece + after[len(piece) :]
        elif kind == "delete":
            seed = before + after[len(piece) :]
        elif before:
            seed = before
    return seed


@cache
def scratch_folder() -> Path:
    """A folder of this process for the files that are read; removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="cxr-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
