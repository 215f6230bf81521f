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
from runtime.commands import Command
from runtime.errors import CxrEngineError
from runtime.termination import Terminated

_COMMANDS: tuple[Command, ...] = (bench_run, compare, report, loadgen, manners)
_INTERRUPTED = 130
_TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0 done, 1 failed or a regression, 2 wrong usage, 130 interrupted, 143 ended by SIGTERM.
    """
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return options.run(options) or 0
    except (CxrEngineError, PeerError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED
    except Terminated:
        print("Terminated.", file=sys.stderr)
        return _TERMINATED


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse; without a command it is `run`."""
    about = "Measure this engine beside what users run today, and write a report."
    parser = argparse.ArgumentParser(
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
