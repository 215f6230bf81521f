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

# Where the output goes to a file: room for the tables of an export, figures of labelled images included.
_WIDTH = 168


class Steps:
    """Numbered steps, shown on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=note_stream())
        self._done = 0
        self._limit: object = None
        # What shows the running step on a terminal: a function that takes what of it runs.
        self._show: Callable[[str], None] | None = None

    @contextmanager
    def step(self, what: str, limit: object = None) -> Iterator[Callable[[float], None]]:
        """Show a step while it runs; yields a function that takes the share done, 0 to 1.

        Args:
            what: in words.
            limit: says as a string how much time is left; None of steps that take the time they need.
        """
        self._done += 1
        label = f"[{self._done}] {what}"
        started = time.monotonic()
        self._limit = limit
        if self.console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(24),
                TimeElapsedColumn(),
                # Formatted anew whenever it is drawn.
                TextColumn("{task.fields[limit]}", markup=False),
            )
            with Progress(*columns, console=self.console, transient=True) as progress:
                task = progress.add_task(label, total=None, limit="" if limit is None else limit)

                def advance(share: float) -> None:
                    progress.update(task, total=1.0, completed=share)

                def show(place: str) -> None:
                    progress.update(task, description=f"{label}, {place}" if place else label, refresh=True)

                self._show = show
                try:
                    yield advance
                finally:
                    self._show = None
        else:
            self.note(f"{label} …")
            yield lambda share: None
        self._limit = None
        self.note(f"{label}: {time.monotonic() - started:.1f} s")

    @contextmanager
    def substep(self, what: str, place: str = "") -> Iterator[None]:
        """Show a part of a step, with the time it took.

        Args:
            what: in words.
            place: such as "recipe 2 of 8": shown while it runs, with the time left of the step.
        """
        started = time.monotonic()
        if self._show:
            self._show(place)
        elif place:
            self.note(f"  {place}{'' if self._limit is None else f', {self._limit}'}: {what} …")
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
