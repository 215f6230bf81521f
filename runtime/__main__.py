"""The command line: `python -m runtime COMMAND …`; the commands are in `runtime.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from runtime.commands import COMMANDS
from runtime.commands.arguments import RESEARCH_ONLY
from runtime.commands.command_line import run_command_line
from runtime.commands.parsing import CommandParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status, see `run_command_line`.
    """

    def run() -> int | None:
        options = parse(arguments)
        status: int | None = options.run(options)
        return status

    return run_command_line(run)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command line, with the command's `run`; SystemExit for wrong usage and help."""
    return _parser().parse_args(arguments)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m runtime", description=f"Run CXR-BERT and BioViL from a bundle. {RESEARCH_ONLY}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = commands.add_parser(command.NAME, help=command.SUMMARY, description=command.SUMMARY)
        added.set_defaults(run=command.run)
        command.add_options(added)
    return parser


if __name__ == "__main__":
    sys.exit(main())
