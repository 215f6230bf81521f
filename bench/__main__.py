"""The command line: `python -m bench` measures and writes a report; `python -m bench COMMAND` does the rest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import compare, manners
from bench import run as bench_run
from bench.loadgen import command as loadgen
from bench.measure import PeerError
from bench.pages import command as report
from bench.quality import QUALITY
from runtime.command_line import run_command_line
from runtime.commands import Command
from runtime.parsing import CommandParser

_COMMANDS: tuple[Command, ...] = (bench_run, compare, report, loadgen, manners)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status, see `runtime.command_line.run_command_line`.
    """

    def run() -> int | None:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        status: int | None = options.run(options)
        return status

    return run_command_line(run, errors=(PeerError,))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse; without a command it is `run`."""
    about = "Measure this engine beside what users run today, and write a report."
    parser = CommandParser(
        prog="python -m bench",
        description=about,
        epilog=f"Without a command it is '{bench_run.NAME}': python -m bench --help says what that takes, too.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        added = commands.add_parser(command.NAME, help=command.SUMMARY, description=command.SUMMARY)
        added.set_defaults(run=command.run)
        command.add_options(added)
    about = "the papers' tasks with the papers' metrics"
    tasks = commands.add_parser("quality", help=about, description=about).add_subparsers(required=True, metavar="WHAT")
    for task in QUALITY:
        added = tasks.add_parser(task.NAME, help=task.SUMMARY, description=task.SUMMARY)
        added.set_defaults(run=task.run)
        task.add_options(added)
    named = bool(arguments) and not (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"))
    return parser.parse_args(arguments if named else [bench_run.NAME, *arguments])


if __name__ == "__main__":
    sys.exit(main())
