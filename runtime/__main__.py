"""The command line: `python -m runtime COMMAND …`; the commands are in `runtime.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from runtime.commands import COMMANDS
from runtime.commands.arguments import RESEARCH_ONLY
from runtime.commands.command_line import add_commands, run_commands
from runtime.commands.parsing import CommandParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status, see `runtime.commands.command_line.run_command_line`.
    """
    return run_commands(lambda: parse(arguments))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command line, with the command's `run`; SystemExit for wrong usage and help."""
    return _parser().parse_args(arguments)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m runtime", description=f"Run CXR-BERT, BioViL and other encoders from a bundle. {RESEARCH_ONLY}"
    )
    add_commands(parser, COMMANDS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
