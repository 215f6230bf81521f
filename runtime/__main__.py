"""The command line: `python -m runtime COMMAND …`; the commands are in `runtime.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from runtime.arguments import RESEARCH_ONLY
from runtime.commands import COMMANDS
from runtime.errors import CxrEngineError
from runtime.termination import Terminated

_INTERRUPTED = 130
_TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0 done (also where bad items were left out as asked), 1 failed, 2 wrong usage, 130 interrupted,
        143 ended by SIGTERM.
    """
    options = _parse(arguments)
    try:
        options.run(options)
    except CxrEngineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left, as `head` does
        return 1
    except OSError as error:  # a full disk, say
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED
    except Terminated:
        print("Terminated.", file=sys.stderr)
        return _TERMINATED
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse; inputs may stand among the options, which argparse (before 3.12) takes for too many arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime", description=f"Run CXR-BERT and BioViL from a bundle. {RESEARCH_ONLY}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = commands.add_parser(command.NAME, help=command.SUMMARY, description=command.SUMMARY)
        added.set_defaults(run=command.run)
        command.add_options(added)
    options, others = parser.parse_known_args(arguments)
    unknown = [name for name in others if name.startswith("-") and name != "-"]
    if unknown or (others and "inputs" not in options):
        parser.error(f"unrecognized arguments: {' '.join(unknown or others)}")
    if others:
        options.inputs += others
    return options


if __name__ == "__main__":
    sys.exit(main())
