"""Show what a bundle holds, verify its digests, and list this machine's engines."""

from __future__ import annotations

import argparse

from runtime.choice.info import describe_bundle, print_description
from runtime.commands.arguments import add_bundle, add_choice_options, add_json
from runtime.process import print_json

NAME = "info"
SUMMARY = "Show what a bundle holds, verify its digests, and list this machine's engines."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_choice_options(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    description = describe_bundle(options.bundle, options.precision, options.min_fidelity)
    if options.json:
        print_json(description)
    else:
        print_description(description)
