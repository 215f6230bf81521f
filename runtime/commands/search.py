"""Find the images or texts of an index that a phrase or an image resembles most."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.archive import check_output
from runtime.bundle import open_bundle
from runtime.bundle.parts import GREY
from runtime.commands.argument_types import as_text, count
from runtime.commands.arguments import (
    RANDOM_WEIGHTS,
    RESEARCH_ONLY,
    add_bundle,
    add_engine_options,
    add_force,
    add_json,
    dicom_options,
    load_engine,
)
from runtime.commands.inputs import add_prompt_name
from runtime.engine import Engine
from runtime.errors import InputError
from runtime.files import check_destinations
from runtime.process import print_json, print_result, report_written
from runtime.retrieval.index import Found, Index, check_model, open_index
from runtime.retrieval.index_folder import GraphRecord
from runtime.retrieval.nearest import RECALL_AT

NAME = "search"
SUMMARY = "Find the images or texts of an index that a phrase or an image resembles most."


@dataclass(frozen=True)
class _Query:
    kind: str
    value: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    parser.add_argument("index", help="folder written by python -m runtime index, with the same bundle")
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="QUERY",
        help="a phrase in quotes, or an image file; each is searched for by itself",
    )
    parser.add_argument("--text", type=as_text, action="append", default=[], help="a phrase, whatever it looks like")
    parser.add_argument("--image", action="append", default=[], help="an image file, whatever its name")
    add_prompt_name(parser)
    parser.add_argument("--top-k", type=count, default=10, metavar="K", help="items to find for each (10)")
    parser.add_argument("--html", type=Path, metavar="SHEET.html", help="write a sheet with the pictures found")
    parser.add_argument(
        "--root", type=Path, help="folder that relative paths of images in the index start from (the current one)"
    )
    parser.add_argument("--exact", action="store_true", help="compare with every item even where there is a graph")
    add_force(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    queries = _queries(options)
    if options.html:
        check_output(options.html, (".html",))
        images = [query.value for query in queries if query.kind == "image"]
        sealed = [options.bundle, options.index]
        check_destinations({"--html": options.html}, images, sealed=sealed, force=options.force)
    index = open_index(options.index)
    manifest = open_bundle(options.bundle).manifest
    check_model(manifest, index.about.origin, options.index)
    engine = load_engine(options, sorted({query.kind for query in queries}))
    found = index.search(_embed(engine, queries, options.prompt_name), options.top_k, exact=options.exact)
    answers = [_answer(index, query, found, number) for number, query in enumerate(queries)]
    graph = None if options.exact else index.about.graph
    if options.json:
        report = {
            "index": options.index,
            "kind": index.kind,
            "items": len(index),
            "search": "graph" if graph else "exact",
            "graph_recall": graph.recall if graph else None,
            "queries": answers,
        }
        print_json(report)
    else:
        _print(index, answers)
        if graph:
            print_result(f"{_searched(graph)}; --exact compares with every item")
    if options.html:
        colours = manifest.image.preprocessing.colours if manifest.image else GREY
        _write_sheet(options, index, answers, _searched(graph), colours)


def _queries(options: argparse.Namespace) -> list[_Query]:
    from runtime.files.formats import is_supported_name

    queries = []
    for value in options.inputs:
        is_file = _is_file(value)
        if not is_file and " " not in value.strip() and is_supported_name(Path(value)):
            raise InputError(f"There is no image {value}. If it is a phrase, pass it with --text.")
        queries.append(_Query("image", value) if is_file else _Query("text", as_text(value)))
    queries += [_Query("text", value) for value in options.text] + [_Query("image", value) for value in options.image]
    if not queries:
        raise InputError("There is nothing to search for: give a phrase in quotes or an image file.")
    return queries


def _is_file(value: str) -> bool:
    try:
        return Path(value).is_file()
    except (OSError, ValueError):  # a phrase too long for a file name
        return False


def _embed(engine: Engine, queries: list[_Query], prompt_name: str | None) -> NDArray[np.float32]:
    """Those of a kind are embedded together, so that all that cannot be used are named."""
    rows: dict[_Query, NDArray[np.float32]] = {}
    for kind in {query.kind for query in queries}:
        chosen = [query for query in queries if query.kind == kind]
        values = [query.value for query in chosen]
        embeds = engine.text.encode(values, prompt_name=prompt_name) if kind == "text" else engine.image.encode(values)
        rows |= zip(chosen, embeds, strict=True)
    return np.stack([rows[query] for query in queries])


def _answer(index: Index, query: _Query, found: Found, number: int) -> dict[str, Any]:
    hits = []
    for rank, (row, score) in enumerate(zip(found.rows[number], found.scores[number], strict=True), 1):
        item = index.item(int(row))
        known = {"text": item.text, "path": item.path}
        hits.append({"rank": rank, "score": float(score), "id": item.id} | {k: v for k, v in known.items() if v})
    return {"query": query.value, "kind": query.kind, "hits": hits}


def _print(index: Index, answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        shown = f"“{answer['query']}”" if answer["kind"] == "text" else answer["query"]
        print_result(f"{shown} → {index.kind}s")
        for hit in answer["hits"]:
            text = f"  {' '.join(hit['text'].split())}" if "text" in hit else ""
            print_result(f"{hit['rank']:4}  {hit['score']:+.4f}  {hit['id']}{text}")


def _searched(graph: GraphRecord | None) -> str:
    if graph is None:
        return "every score computed"
    return f"nearest by a graph, recall@{RECALL_AT} {graph.recall:.3f} on {graph.queries} of its own items"


def _write_sheet(
    options: argparse.Namespace, index: Index, answers: list[dict[str, Any]], searched: str, colours: str
) -> None:
    from runtime.retrieval.result_sheet import Answer, Hit, write_sheet

    origin = index.about.origin
    root = options.root or Path()
    sheet = [
        Answer(
            answer["query"],
            answer["kind"],
            [
                Hit(hit["id"], hit["score"], hit.get("text"), root / hit["path"] if "path" in hit else None)
                for hit in answer["hits"]
            ],
        )
        for answer in answers
    ]
    about = f"{len(index):,} {index.kind}s of {index.folder.name} · {origin.family}, {origin.precision} · {searched}"
    notes = [*([RANDOM_WEIGHTS] if origin.random_weights else []), RESEARCH_ONLY]
    write_sheet(options.html, sheet, index.kind, about, notes, dicom_options(options), options.force, colours)
    if not options.json:
        report_written(f"sheet → {options.html}")
