"""The parser of every command line of the three packages."""

from __future__ import annotations

import argparse
from typing import Any

from runtime.console import note_stream, print_result

__all__ = ["CommandParser"]


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that prints through `runtime.console`: help is a result, usage and errors are notes."""

    def print_help(self, file: Any = None) -> None:
        """Print the help as a result."""
        print_result(self.format_help().rstrip("\n"))

    def _print_message(self, message: str, file: Any = None) -> None:
        stream = note_stream()
        stream.write(message)
        stream.flush()
