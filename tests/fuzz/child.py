"""One property under Atheris for a while: `python -m tests.fuzz.child NAME COUNTER KNOWN CORPUS [libFuzzer's options]`.

Atheris never returns and ends the process its own way, so the count of inputs lies in a file that is mapped. Errors
whose signature is in the file KNOWN, a line each, are passed over, so that one fault does not hide the next.
"""

from __future__ import annotations

import mmap
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).resolve().parents[2]


def signature(error: BaseException) -> str:
    """What tells one fault from another: its kind, and the last line of the project that it went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(ROOT)]
    frames = [frame for frame in frames if "/.venv" not in frame.filename and frame.filename != __file__]
    place = f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} {place}"


def main() -> None:
    """Run until libFuzzer's limits are reached or something is found."""
    name, counter_file, known_file, corpus, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["runtime", "export", "bench"]):
        from tests.fuzz.properties import find_properties

        found = find_properties()[name]
    known = set(Path(known_file).read_text(encoding="utf-8").splitlines())
    with Path(counter_file).open("r+b") as stream:
        counter = mmap.mmap(stream.fileno(), 8)
    tried = 0

    def counted(value: Any) -> None:
        nonlocal tried
        tried += 1
        struct.pack_into("<q", counter, 0, tried)
        try:
            found.check(value)
        except Exception as error:
            if signature(error) not in known:
                print(f"\nFOUND {signature(error)}", file=sys.stderr)
                raise

    atheris.Setup([sys.argv[0], *options, corpus], _target(found, counted))
    atheris.Fuzz()


def _target(found: Any, counted: Callable[[Any], None]) -> Callable[[bytes], None]:
    """libFuzzer's bytes as the file itself, or as the choices of Hypothesis' strategy."""
    if found.strategy is None:
        return counted
    from hypothesis import given, settings

    @settings(database=None, deadline=None)
    @given(found.strategy)
    def test(value: Any) -> None:
        counted(value)

    return test.hypothesis.fuzz_one_input


if __name__ == "__main__":
    main()
