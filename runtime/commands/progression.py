"""Print how findings change from a previous image to a current one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.bundle import open_bundle
from runtime.commands.argument_types import as_text
from runtime.commands.arguments import add_bundle, add_engine_options, add_json, load_engine
from runtime.errors import InputError
from runtime.process import print_json, print_result
from runtime.tasks.progression import CHANGES, check_images
from runtime.tasks.prompts import read_prompts
from runtime.tasks.zero_shot import RULES

NAME = "progression"
SUMMARY = "Print how findings change from a previous image to a current one, by prompts (BioViL-T)."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    parser.add_argument("current", help="image file")
    parser.add_argument("previous", help="image file of the earlier examination")
    said = ", ".join(f"“{template.replace('{}', 'FINDING')}”" for each in CHANGES.values() for template in each)
    parser.add_argument(
        "findings",
        type=as_text,
        nargs="*",
        metavar="FINDING",
        help=f"such as 'pleural effusion'; each is told by itself, by the sentences {said}",
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE.json",
        help='instead of findings: what is compared, {"class": ["prompt", …], …}',
    )
    parser.add_argument(
        "--rule",
        choices=[*RULES],
        help="how several prompts become one embedding, see classify (that of the bundle's system)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    if bool(options.findings) == bool(options.prompts):
        raise InputError("Give findings, such as 'pleural effusion', or --prompts, one of the two.")
    asked = _own(options.prompts) if options.prompts else {name: name for name in options.findings}
    image = open_bundle(options.bundle).manifest.image
    check_images(image.images if image else None)
    engine = load_engine(options, None)
    found: dict[str, Any] = {
        name: engine.progression(options.current, options.previous, finding, options.rule)
        for name, finding in asked.items()
    }
    if options.json:
        print_json({"current": options.current, "previous": options.previous, "progression": found})
        return
    width = max(map(len, found))
    for name, classes in found.items():
        print_result(f"{name:{width}}  " + "   ".join(f"{each} {value:.3f}" for each, value in classes.items()))


def _own(path: str) -> Mapping[str, Mapping[str, Sequence[str]]]:
    return {path: {each.label: each.positive for each in read_prompts(path, ())}}
