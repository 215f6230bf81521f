"""What embed, index and classify ask for alike: inputs, columns of tables, and what happens to what cannot be used."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from runtime.archive import Stream, check_output
from runtime.commands.argument_types import as_text
from runtime.engine import Engine
from runtime.errors import InputError
from runtime.files import Columns

__all__ = [
    "add_columns",
    "add_image_columns",
    "add_images",
    "add_inputs",
    "add_previous",
    "add_previous_column",
    "add_prompt_name",
    "add_rejects",
    "add_skip_bad",
    "add_text_column",
    "check_previous",
    "check_prompt",
    "check_rejects",
    "columns",
    "prompted",
    "skips_bad",
]

_IMAGES = "image files, folders of images, quoted patterns ('films/**/*.dcm')"
_TABLES = ".csv, .jsonl and .parquet"


def add_inputs(parser: argparse.ArgumentParser, verb: str, more: str = "") -> None:
    """Add the positionals `inputs`, images or texts, and --text.

    Args:
        parser: the command's.
        verb: what the command does with a text, for the help.
        more: what else it takes, for the help.
    """
    lines = ".txt (a text a line), .csv, .jsonl or .parquet files, or - for lines of stdin"
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help=f"{_IMAGES}, {lines}{more}")
    parser.add_argument("--text", type=as_text, action="append", default=[], help=f"a text to {verb}; may be repeated")


def add_prompt_name(parser: argparse.ArgumentParser) -> None:
    """Add --prompt-name; see `prompted`."""
    parser.add_argument(
        "--prompt-name",
        metavar="NAME",
        help="of what the system puts before texts of a kind, such as query (its default; `info` lists them)",
    )


def prompted(stream: Stream, options: argparse.Namespace) -> Stream:
    """A stream with the prompt that --prompt-name asks for.

    Raises:
        InputError: it holds images.
    """
    if options.prompt_name is not None and stream.part != "text":
        raise InputError("--prompt-name is for texts; the inputs are images.")
    return replace(stream, prompt_name=options.prompt_name)


def check_prompt(engine: Engine, stream: Stream) -> None:
    """Refuse a prompt that the system has not, before anything is written; raises InputError."""
    if stream.part == "text":
        engine.text.tokenizer.prompt(stream.prompt_name)


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the positionals `inputs`, images alone."""
    parser.add_argument("inputs", nargs="*", metavar="IMAGES", help=f"{_IMAGES}, or tables with --image-column")


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the options that name columns of tables: --column or --image-column, and --id-column; see `columns`."""
    column = parser.add_mutually_exclusive_group()
    add_text_column(column)
    _add_image_column(column, "take images instead: column of paths")
    _add_id_column(parser, "file:row; for images the path")


def add_previous(parser: argparse.ArgumentParser) -> None:
    """Add --previous, of commands that take one image."""
    parser.add_argument(
        "--previous",
        metavar="IMAGE",
        help="image file of an earlier examination; for systems that compare images (biovil-t)",
    )


def add_previous_column(parser: argparse.ArgumentParser) -> None:
    """Add --previous-column; see `columns` and `check_previous`."""
    parser.add_argument(
        "--previous-column",
        metavar="COLUMN",
        help="column of previous images, empty where there is none; for systems that compare images (biovil-t)",
    )


def check_previous(engine: Engine, named: Columns) -> None:
    """Refuse previous images for a system of single ones, before anything is written; raises InputError."""
    if named.previous is not None and engine.image.images == 1:
        raise InputError(
            f"--previous-column is for systems that compare images, such as biovil-t; '{engine.manifest.family}' "
            "embeds one image at a time."
        )


def add_text_column(place: argparse._ActionsContainer) -> None:
    """Add --column, the column of texts, to a parser or a group of one."""
    place.add_argument("--column", default=Columns.text, help=f"text column of {_TABLES} files ({Columns.text})")


def add_image_columns(parser: argparse.ArgumentParser) -> None:
    """Add --image-column and --id-column, of tables of images."""
    _add_image_column(parser, f"column of paths in {_TABLES} inputs")
    _add_id_column(parser, "the path")


def columns(options: argparse.Namespace) -> Columns:
    """The columns that the options of `add_columns`, `add_image_columns` and `add_previous_column` name.

    Raises:
        InputError: previous images without current ones.
    """
    previous = getattr(options, "previous_column", None)
    if previous is not None and options.image_column is None:
        raise InputError("--previous-column goes with --image-column, the column of current images.")
    return Columns(getattr(options, "column", Columns.text), options.image_column, options.id_column, previous)


def add_skip_bad(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add --skip-bad; `more` goes into the help."""
    parser.add_argument("--skip-bad", action="store_true", help=f"leave out what cannot be used, and list it{more}")


def add_rejects(parser: argparse.ArgumentParser) -> None:
    """Add --rejects; see `check_rejects` and `skips_bad`."""
    parser.add_argument(
        "--rejects", type=Path, metavar="NAME.jsonl", help="list what cannot be used there, and skip it"
    )


def check_rejects(options: argparse.Namespace) -> None:
    """Refuse a file for --rejects that cannot be written, before the work; raises InputError."""
    if options.rejects:
        check_output(options.rejects, (".jsonl",))


def skips_bad(options: argparse.Namespace) -> bool:
    """Whether --skip-bad or --rejects asks for what can be used alone."""
    return bool(options.skip_bad or options.rejects is not None)


def _add_image_column(place: argparse._ActionsContainer, what: str) -> None:
    place.add_argument("--image-column", metavar="COLUMN", help=f"{what}, relative to the table's folder")


def _add_id_column(parser: argparse.ArgumentParser, otherwise: str) -> None:
    parser.add_argument("--id-column", metavar="COLUMN", help=f"id column of {_TABLES} files ({otherwise})")
