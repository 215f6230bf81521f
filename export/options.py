"""Options that an export and the measuring of a bundle share."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_zero_shot_options", "asked_zero_shot"]

_NEEDED = ("images", "labels", "prompts")


def add_zero_shot_options(parser: argparse.ArgumentParser) -> None:
    """Add the labelled images and prompts, named and read as `python -m runtime classify` does."""
    parser.add_argument(
        "--zero-shot-images",
        type=Path,
        metavar="DIR",
        help="labelled images, to measure by how much each precision changes the AUROC of zero-shot classification; "
        "with --zero-shot-labels and --zero-shot-prompts",
    )
    parser.add_argument(
        "--zero-shot-labels",
        type=Path,
        metavar="NAME.csv",
        help="what is true of them, as --labels of python -m runtime classify",
    )
    parser.add_argument(
        "--zero-shot-prompts",
        metavar="NAME|FILE.json",
        help="prompts of the labels, as --prompts of python -m runtime classify",
    )
    parser.add_argument(
        "--label-id-column",
        default="id",
        metavar="COLUMN",
        help="column of --zero-shot-labels with the images' ids (id)",
    )


def asked_zero_shot(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[Path, Path, str, str] | None:
    """Images, labels, prompts and the column of ids; None where none were given.

    Some without the others are an error of usage.
    """
    given = {f"--zero-shot-{name}": getattr(options, f"zero_shot_{name}") for name in _NEEDED}
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        parser.error(f"{', '.join(given)} belong together: give {' and '.join(missing)} too, or none")
    return None if missing else (*given.values(), options.label_id_column)
