"""Look at this machine, run a tiny graph on every engine, and say what is in the way of those that do not run."""

from __future__ import annotations

import argparse

from runtime.commands.arguments import add_json
from runtime.errors import ProviderError
from runtime.process import print_json

NAME = "doctor"
SUMMARY = (
    "Look at this machine, run a tiny graph on every engine, and say what is in the way of those that do not run. "
    "Exit status 1 if no engine runs, or BUNDLE cannot be loaded; else 0."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bundle", nargs="?", help="also say what loading this bundle would choose")
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from runtime.choice.doctor import examine, print_report, works

    report = examine(options.bundle)
    if options.json:
        print_json(report)
    else:
        print_report(report)
    if not works(report):
        raise ProviderError("Nothing can be computed here; the report says why.")
