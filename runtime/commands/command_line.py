"""What the command lines of the three packages share: exit statuses, and errors as one message."""

from __future__ import annotations

from collections.abc import Callable

from runtime.errors import CxrEngineError
from runtime.process import print_note
from runtime.process.console import ReaderLeft, standard_streams
from runtime.process.termination import Terminated, terminable

__all__ = ["DONE", "FAILED", "INTERRUPTED", "TERMINATED", "WRONG_USAGE", "run_command_line"]

# argparse's own.
WRONG_USAGE = 2
DONE, FAILED, INTERRUPTED, TERMINATED = 0, 1, 130, 143


def run_command_line(run: Callable[[], int | None], errors: tuple[type[Exception], ...] = (), undone: str = "") -> int:
    """Parse arguments and do what they say, with the standard streams in order.

    Args:
        run: does it, and returns an exit status, or None for 0; SystemExit, which argparse raises, passes.
        errors: what it raises on purpose beside CxrEngineError.
        undone: what an error that is not of its own making, or an interrupt, has left undone, such as "; nothing was
            written".

    Returns:
        The exit status:

        ===  =======================================================================
        0    done (also where bad items were left out as asked)
        1    failed: a message on standard error says why; or what was compared got worse, or misses a gate
        2    wrong usage
        130  interrupted
        143  ended by SIGTERM
        ===  =======================================================================
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
