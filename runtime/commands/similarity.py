"""Print how similar an image and a phrase are."""

from __future__ import annotations

import argparse

from runtime.commands.argument_types import as_text
from runtime.commands.arguments import add_bundle, add_engine_options, add_json, load_engine
from runtime.commands.inputs import add_previous
from runtime.process import print_json, print_result

NAME = "similarity"
SUMMARY = "Print how similar an image and a phrase are."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    parser.add_argument("image", help="image file")
    parser.add_argument(
        "phrases", type=as_text, nargs="+", metavar="PHRASE", help="a phrase, or several that mean the same"
    )
    add_previous(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    engine = load_engine(options, None)
    score = engine.similarity(options.image, options.phrases, options.previous)
    if options.json:
        print_json({"image": options.image, "phrases": options.phrases, "similarity": score}, indent=None)
    else:
        print_result(f"{score:+.4f}  {options.image}  {' | '.join(options.phrases)}")
