"""Print how similar an image and a phrase are."""

from __future__ import annotations

import argparse
import json

from runtime.arguments import add_bundle, add_engine_options, load_engine

NAME = "similarity"
SUMMARY = "Print how similar an image and a phrase are."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    parser.add_argument("image", help="image file")
    parser.add_argument("phrases", nargs="+", metavar="PHRASE", help="a phrase, or several that mean the same")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    engine = load_engine(options, None)
    score = engine.similarity(options.image, options.phrases)
    if options.json:
        print(json.dumps({"image": options.image, "phrases": options.phrases, "similarity": score}))
    else:
        print(f"{score:+.4f}  {options.image}  {' | '.join(options.phrases)}")
