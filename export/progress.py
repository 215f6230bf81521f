"""Show where a long export is: a spinner with the time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from runtime.process.console import note_stream

__all__ = ["Steps", "report_console"]

# Where the output goes to a file.
_WIDTH = 132


class Steps:
    """Numbered steps, shown on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=note_stream())
        self._done = 0

    @contextmanager
    def step(self, what: str) -> Iterator[Callable[[float], None]]:
        """Show a step while it runs; yields a function that takes the share done, 0 to 1."""
        self._done += 1
        label = f"[{self._done}] {what}"
        started = time.monotonic()
        if self.console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(24),
                TimeElapsedColumn(),
            )
            with Progress(*columns, console=self.console, transient=True) as progress:
                task = progress.add_task(label, total=None)

                def advance(share: float) -> None:
                    progress.update(task, total=1.0, completed=share)

                yield advance
        else:
            self.note(f"{label} …")
            yield lambda share: None
        self.note(f"{label}: {time.monotonic() - started:.1f} s")

    @contextmanager
    def substep(self, what: str) -> Iterator[None]:
        """Show a part of a step, with the time it took."""
        started = time.monotonic()
        yield
        self.note(f"  {what}: {time.monotonic() - started:.1f} s")

    def note(self, text: str) -> None:
        """Print a line, however long."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def report_console(stream: TextIO) -> Console:
    """For `report_stream` or `result_stream`: wide enough for the tables where it is no terminal."""
    console = Console(file=stream)
    if not console.is_terminal:
        console.width = _WIDTH
    return console
