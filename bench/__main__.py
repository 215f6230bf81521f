"""The command line: `python -m bench` measures and writes a report; `python -m bench COMMAND` does the rest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import compare, headlines, manners
from bench import gpu as gpu_check
from bench import run as bench_run
from bench.errors import PeerError
from bench.loadgen import command as loadgen
from bench.pages import command as report
from bench.quality import QUALITY
from bench.serving import command as serving
from runtime.commands import Command
from runtime.commands.command_line import add_commands, run_commands
from runtime.commands.parsing import CommandParser

_COMMANDS: tuple[Command, ...] = (bench_run, compare, headlines, report, loadgen, serving, manners, gpu_check)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status, see `runtime.commands.command_line.run_command_line`.
    """
    return run_commands(lambda: parse(sys.argv[1:] if arguments is None else arguments), errors=(PeerError,))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line, with the command's `run`; without a command it is that of `run`."""
    named = bool(arguments) and not (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"))
    return _parser().parse_args(arguments if named else [bench_run.NAME, *arguments])


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m bench",
        description="Measure this engine beside what users run today, and write a report.",
        epilog=f"Without a command it is '{bench_run.NAME}'; its options: python -m bench {bench_run.NAME} --help",
    )
    commands = add_commands(parser, _COMMANDS)
    about = "the papers' tasks with the papers' metrics"
    add_commands(commands.add_parser("quality", help=about, description=about), QUALITY, "WHAT")
    return parser


if __name__ == "__main__":
    sys.exit(main())
