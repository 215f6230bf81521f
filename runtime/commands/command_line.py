"""What the command lines of the three packages share: commands, exit statuses, and errors as one message."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Protocol

from runtime.errors import CxrEngineError
from runtime.process import print_note
from runtime.process.console import ReaderLeft, standard_streams
from runtime.process.termination import Terminated, terminable

__all__ = [
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "LEFT_OUT",
    "NO_GPU",
    "TERMINATED",
    "WRONG_USAGE",
    "Command",
    "add_commands",
    "run_command_line",
    "run_commands",
]

# argparse's own.
WRONG_USAGE = 2
DONE, FAILED, LEFT_OUT, NO_GPU, INTERRUPTED, TERMINATED = 0, 1, 3, 4, 130, 143


class Command(Protocol):
    """What a module that is a command offers."""

    NAME: str
    SUMMARY: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, options: argparse.Namespace) -> int | None:
        """Run the command and return its exit status, None for 0; raises CxrEngineError with what to tell the user."""


def add_commands(
    parser: argparse.ArgumentParser, commands: Iterable[Command], metavar: str = "COMMAND"
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    """Add commands, one of which must be named, to a parser; their options then hold the command's `run`.

    Returns:
        Where more can be added.
    """
    places = parser.add_subparsers(required=True, metavar=metavar)
    for command in commands:
        added = places.add_parser(command.NAME, help=command.SUMMARY, description=command.SUMMARY)
        added.set_defaults(run=command.run)
        command.add_options(added)
    return places


def run_commands(parse: Callable[[], argparse.Namespace], errors: tuple[type[Exception], ...] = ()) -> int:
    """Run the command that was named; see `run_command_line`.

    Args:
        parse: reads the command line with the parser that `add_commands` was given.
        errors: what commands raise on purpose beside CxrEngineError.
    """

    def run() -> int | None:
        options = parse()
        status: int | None = options.run(options)
        return status

    return run_command_line(run, errors)


def run_command_line(run: Callable[[], int | None], errors: tuple[type[Exception], ...] = (), undone: str = "") -> int:
    """Parse arguments and do what they say, with the standard streams in order.

    Args:
        run: does it, and returns an exit status, or None for 0; SystemExit, which argparse raises, passes.
        errors: what it raises on purpose beside CxrEngineError.
        undone: what an error that is not of its own making, or an interrupt, has left undone, such as "; nothing was
            written".

    Returns:
        The exit status:

        ===  ==================================================================================
        0    done (also where bad items were left out as asked)
        1    failed: a message on standard error says why; or what was compared got worse, or misses a gate
        2    wrong usage
        3    done but for what missed its gate, which is listed on standard error: of exports alone
        4    there is no GPU to run on, and nothing was checked: of `python -m bench gpu-check` alone
        130  interrupted
        143  ended by SIGTERM
        ===  ==================================================================================
    """
    expected: tuple[type[Exception], ...] = (CxrEngineError, *errors)
    with standard_streams():
        try:
            with terminable():
                return run() or DONE
        except ReaderLeft:  # who read our output left, as `head` does
            return FAILED
        except expected as error:
            print_note(f"{type(error).__name__}: {error}")
            return FAILED
        except OSError as error:  # a full disk, say
            print_note(f"{type(error).__name__}: {error}{undone}")
            return FAILED
        except KeyboardInterrupt:
            print_note(f"Interrupted{undone}.")
            return INTERRUPTED
        except Terminated:
            print_note(f"Terminated{undone}.")
            return TERMINATED
