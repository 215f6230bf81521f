"""Embed images or texts into one file or a folder of Parquet parts."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from runtime.archive import check_output, find_items
from runtime.archive.embed import PART_ROWS, embed_to_file, embed_to_folder
from runtime.archive.folder import REJECTS, check_folder
from runtime.archive.output import ids_file, is_folder_output
from runtime.commands.argument_types import count
from runtime.commands.arguments import add_bundle, add_engine_options, add_force, load_engine, note_choices
from runtime.commands.inputs import (
    add_columns,
    add_inputs,
    add_previous_column,
    add_prompt_name,
    add_rejects,
    add_skip_bad,
    check_previous,
    check_prompt,
    check_rejects,
    columns,
    prompted,
    skips_bad,
)
from runtime.errors import InputError
from runtime.files import check_destinations, check_folder_destination
from runtime.process import print_note

NAME = "embed"
SUMMARY = "Embed images or texts into one file or a folder of Parquet parts."

_OPTION_OF = {"text": "column", "image": "image_column", "id": "id_column", "previous": "previous_column"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    add_inputs(parser, "embed")
    parser.add_argument(
        "--out",
        required=True,
        help="a folder, for any number of items; or NAME.npy (ids in NAME.ids.txt) or NAME.parquet, held in memory",
    )
    add_columns(parser)
    add_previous_column(parser)
    add_prompt_name(parser)
    add_skip_bad(parser, "; a folder always does, but for formats that lack a package")
    add_rejects(parser)
    parser.add_argument("--resume", action="store_true", help="go on where a run into the same folder stopped")
    parser.add_argument(
        "--part-rows",
        type=count,
        default=PART_ROWS,
        metavar="N",
        help=f"items of one part of a folder; a killed run loses at most as many ({PART_ROWS})",
    )
    add_force(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    to_folder = is_folder_output(options.out)
    out = Path(options.out)
    if to_folder:
        if options.rejects:
            raise InputError(f"--rejects is for single files; a folder gets its own {REJECTS}.")
        if options.resume and options.force:
            raise InputError("--resume goes on with a run, --force removes it and begins anew: give one of them.")
        check_folder(out, options.resume, options.force)
    else:
        if options.resume:
            raise InputError(f"{out} cannot be resumed: it is one file. Write to a folder, --out {out.stem}/")
        check_output(out)
        check_rejects(options)
    named = columns(options)
    stream = prompted(find_items(options.inputs, options.text, named), options)
    if to_folder:
        check_folder_destination(out, stream.files(), [options.bundle])
    else:
        files = {"--out": out, "--rejects": options.rejects}
        files |= {"the ids of --out,": ids_file(out)} if out.suffix == ".npy" else {}
        check_destinations(files, stream.files(), sealed=[options.bundle], force=options.force)
    engine = load_engine(options, [stream.part])
    note_choices(engine)
    check_prompt(engine, stream)
    check_previous(engine, named)
    if to_folder:
        settings = {
            **{name: value for name, value in asdict(named).items() if name != "previous"},
            "keep_monochrome1": options.keep_monochrome1,
            "frame": options.frame,
            "voi_lut": options.voi_lut,
            "pixel_padding": options.pixel_padding,
            "fast_decode": options.fast_decode,
        }
        # Runs of before there were these can be resumed.
        if options.prompt_name is not None:
            settings["prompt_name"] = options.prompt_name
        if options.refuse_long:
            settings["refuse_long"] = True
        if named.previous is not None:
            settings["previous"] = named.previous
        settings = {_OPTION_OF.get(name, name): value for name, value in settings.items()}
        embed_to_folder(
            engine,
            stream,
            out,
            options.part_rows,
            settings,
            resume=options.resume,
            skip_bad=options.skip_bad,
            force=options.force,
        )
    else:
        embed_to_file(engine, stream, out, skips_bad(options), options.rejects, options.force)
    encoder = engine.image if stream.part == "image" else engine.text
    for line in encoder.notices.summary():
        print_note(line)
