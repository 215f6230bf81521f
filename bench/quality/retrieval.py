"""Do texts find their images, and images their texts? Recall at 1, 5 and 10 and the median rank, both ways.

A table names pairs. An image may have several texts and a text several images; each is one candidate, and a query is
answered when any of its partners is among the k nearest. Every score is computed, whatever the number of items.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.encoders import PYTORCH, add_encoder_options, identity, text_encoders, torch_threads
from bench.quality.text_tables import Sentences, read_sentences, settle
from bench.quality.torch_image import torch_images
from runtime.commands.arguments import load_engine
from runtime.commands.inputs import add_skip_bad
from runtime.engine import Engine
from runtime.errors import Fault
from runtime.image.images import look_at
from runtime.process import print_json, print_result
from runtime.retrieval.recall import RECALL_AT, partner_ranks, recall_of

__all__ = ["NAME", "SUMMARY", "add_options", "run"]

NAME = "retrieval"
SUMMARY = "How well texts find their images and images their texts: recall at 1, 5 and 10, median rank."

_WAYS = ("text_to_image", "image_to_text")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_encoder_options(parser)
    parser.add_argument(
        "--pairs", type=Path, required=True, help=".csv, .jsonl or .parquet: a row for each pair of an image and a text"
    )
    parser.add_argument("--image-column", default="image", help="its column of paths of images (image)")
    parser.add_argument("--text-column", default="text", help="its column of texts (text)")
    parser.add_argument("--images", type=Path, help="folder that the paths start from (the table's)")
    add_skip_bad(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    folder = options.images or options.pairs.parent
    read, faults = read_sentences(options.pairs, (options.text_column, options.image_column))
    # A row's image goes where other tables have their label: only the text is for the tokenizer.
    rows = [Sentences(row.line, row.texts[:1], str(folder / row.texts[1])) for row in read]
    total = len(rows) + len(faults)
    engine = load_engine(options, ["text", "image"])
    paths = list(dict.fromkeys(row.label for row in rows))
    faults += _of_rows(rows, {paths[fault.index]: fault.reason for fault in look_at(paths)})
    rows = settle(options.pairs, rows, faults, engine.text.tokenizer, options.skip_bad)
    found, reasons = _embed_images(engine, list(dict.fromkeys(row.label for row in rows)))
    rows = settle(options.pairs, rows, _of_rows(rows, reasons), engine.text.tokenizer, options.skip_bad)

    images = {path: number for number, path in enumerate(dict.fromkeys(row.label for row in rows))}
    texts = {text: number for number, text in enumerate(dict.fromkeys(row.texts[0] for row in rows))}
    pairs = np.array([(texts[row.texts[0]], images[row.label]) for row in rows])
    results: dict[str, Any] = {}
    embeddings = []
    for name, encode in text_encoders(engine, options).items():
        if name == PYTORCH:
            image_embeds = torch_images(engine, options.checkpoint, torch_threads(options))(list(images))
        else:
            image_embeds = np.stack([found[path] for path in images])
        text_embeds = encode(list(texts))
        embeddings.append((text_embeds, image_embeds))
        results[name] = _recalls(text_embeds, image_embeds, pairs)
    report = {
        "pairs": {"file": options.pairs.name, "rows": len(rows), "skipped": total - len(rows)},
        "texts": len(texts),
        "images": len(images),
        "results": results,
        "largest_difference": _difference(embeddings) if len(embeddings) > 1 else None,
        **identity(NAME, engine),
    }
    print_json(report) if options.json else _print(report)


def _recalls(
    text_embeds: NDArray[np.float32], image_embeds: NDArray[np.float32], pairs: NDArray[np.intp]
) -> dict[str, dict[str, Any]]:
    sides = ((text_embeds, image_embeds, pairs), (image_embeds, text_embeds, pairs[:, ::-1]))
    return {
        way: asdict(recall_of(partner_ranks(queries, candidates, rows), len(candidates)))
        for way, (queries, candidates, rows) in zip(_WAYS, sides, strict=True)
    }


def _difference(embeddings: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> float:
    """Largest difference of a cosine of a text and an image."""
    (texts, images), (other_texts, other_images) = embeddings
    return float(np.abs(texts @ images.T - other_texts @ other_images.T).max())


def _embed_images(engine: Engine, paths: list[str]) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Embeddings by path, and reasons of those that cannot be read."""
    reasons: dict[str, str] = {}

    def on_fault(fault: Fault) -> None:
        reasons[paths[fault.index]] = fault.reason

    rows = list(engine.image.encode_iter(paths, on_fault=on_fault))
    return {path: row for path, row in zip(paths, rows, strict=True) if row is not None}, reasons


def _of_rows(rows: list[Sentences], reasons: dict[str, str]) -> list[Fault]:
    return [
        Fault(row.line, f"line {row.line}", f"{row.label}: {reasons[row.label]}")
        for row in rows
        if row.label in reasons
    ]


def _print(report: dict[str, Any]) -> None:
    pairs = report["pairs"]
    used = f"{pairs['rows']} pairs of {report['texts']} texts and {report['images']} images"
    print_result(f"{pairs['file']}: {used}; left out: {pairs['skipped']}")
    width = max(map(len, report["results"]))
    print_result(f"{'':{width}}                 {''.join(f'   R@{k:<3}' for k in RECALL_AT)}  median rank")
    for name, ways in report["results"].items():
        for way, found in ways.items():
            shares = "".join(f"  {found['recall'][k]:6.1%}" for k in RECALL_AT)
            print_result(f"{name:{width}}  {way.replace('_', ' '):15}{shares}  {found['median_rank']:11g}")
    if report["largest_difference"] is not None:
        print_result(f"largest difference of a cosine: {report['largest_difference']:.1e}")
