"""Make an index of images or texts, to search it with phrases and images."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.commands.arguments import add_bundle, add_engine_options, add_force, load_engine, note_choices
from runtime.commands.inputs import (
    add_columns,
    add_inputs,
    add_prompt_name,
    add_skip_bad,
    check_prompt,
    columns,
    prompted,
)
from runtime.errors import InputError
from runtime.files import check_folder_destination
from runtime.process import report_written
from runtime.retrieval.build import files_read, find_stream, index_embedded, index_stream
from runtime.retrieval.index import open_index
from runtime.retrieval.index_folder import check_new_folder
from runtime.retrieval.nearest import EXACT_BELOW, RECALL_AT, check_faiss

NAME = "index"
SUMMARY = "Make an index of images or texts, to search it with phrases and images."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    add_inputs(parser, "index", "; or what embed wrote to Parquet with this very bundle (a file, or a folder)")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="the folder to write; it holds the texts themselves, or the paths of the images as they are given here; "
        f"from {EXACT_BELOW:,} items on also a graph, which is searched instead of all items",
    )
    add_columns(parser)
    add_prompt_name(parser)
    add_skip_bad(parser)
    add_force(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    check_new_folder(options.out, options.force)
    check_faiss(f"Writing {options.out}")
    named = columns(options)
    stream = find_stream(options.inputs, options.text, named)
    if stream is not None:
        stream = prompted(stream, options)
    elif options.prompt_name is not None:
        raise InputError("--prompt-name is for texts; the inputs are embeddings, made with the prompt that they have.")
    check_folder_destination(options.out, files_read(options.inputs, stream), [options.bundle])
    engine = load_engine(options, None if stream is None else [stream.part])
    if stream is None:
        index_embedded(engine, options.inputs, options.out, options.force)
    else:
        note_choices(engine)
        check_prompt(engine, stream)
        index_stream(engine, stream, options.out, options.skip_bad, options.force)
    index = open_index(options.out, engine)
    graph = index.about.graph
    how = f"a graph, recall@{RECALL_AT} {graph.recall:.3f} on {graph.queries} of its own items" if graph else "exact"
    report_written(f"{len(index):,} {index.kind}s → {options.out}  [{index.about.origin.precision}; search: {how}]")
