"""Classify images by prompts, without training, into a CSV file; evaluate it where labels are given."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.archive import Stream, check_output, find_items
from runtime.archive.chunks import embed_stream, settle_rejects
from runtime.archive.items import TEXT_SUFFIXES
from runtime.archive.output import clean_id
from runtime.archive.records import Reject
from runtime.commands.arguments import add_bundle, add_engine_options, add_force, add_json, load_engine, note_choices
from runtime.commands.inputs import (
    add_image_columns,
    add_images,
    add_rejects,
    add_skip_bad,
    check_rejects,
    columns,
    skips_bad,
)
from runtime.commands.prompting import add_prompts, as_mapping, asked_prompts
from runtime.engine import Engine
from runtime.errors import InputError
from runtime.files import check_destinations
from runtime.files.replaceable import csv_header
from runtime.files.whole_file import whole_file
from runtime.process import print_json, report_written
from runtime.process.wording import counted
from runtime.tasks.evaluation import Evaluation, evaluate
from runtime.tasks.evaluation_report import describe_evaluation, print_evaluation, some
from runtime.tasks.truth import Matches, TruthTable, match_images, read_truth
from runtime.tasks.zero_shot import ZeroShotClassifier

NAME = "classify"
SUMMARY = "Classify images by prompts (zero-shot) into a CSV file, and evaluate it where labels are given."

_ID = "id"


@dataclass(frozen=True)
class _Truth:
    """What is true, and of which image."""

    table: TruthTable
    matches: Matches


@dataclass(frozen=True)
class _Done:
    """What was classified: counts, and the rows of the truth with the probabilities of their images."""

    images: int
    skipped: int
    rows: list[int]
    probabilities: list[NDArray[np.float32]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    add_images(parser)
    add_prompts(parser)
    parser.add_argument(
        "--out", required=True, type=Path, metavar="NAME.csv", help="a row an image: id, and a probability a label"
    )
    add_image_columns(parser)
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="NAME.csv",
        help="evaluate: columns named as the labels, with 1, 0, -1 (uncertain, left out) or nothing (left out), as in "
        "CheXpert; rows belong to images by id, by the end of the path, or by the file's name with or without suffix",
    )
    parser.add_argument(
        "--label-id-column", default=_ID, metavar="COLUMN", help=f"column of --labels with the images' ids ({_ID})"
    )
    add_skip_bad(parser)
    add_rejects(parser)
    add_force(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    asked = asked_prompts(options)
    prompts, rule, score = asked.prompts, asked.rule, asked.score
    labels = [each.label for each in prompts]
    _check(options, labels)
    stream = find_items(options.inputs, [], columns(options))
    files = {"--out": options.out, "--rejects": options.rejects}
    inputs = chain(filter(None, (options.labels, options.prompts, options.templates)), stream.files())
    check_destinations(files, inputs, sealed=[options.bundle], force=options.force)
    truth = _truth(options, stream, labels) if options.labels else None
    engine = load_engine(options, ["text", "image"])
    note_choices(engine)
    classifier = engine.zero_shot_classifier(as_mapping(prompts), rule, score)
    done = _classify(engine, classifier, stream, options, truth)
    evaluation = _evaluate(truth, classifier, done) if truth else None
    if options.json:
        report = {
            "out": str(options.out),
            "prompts": options.prompts,
            "templates": options.templates,
            "rule": rule,
            "score": score,
            "images": done.images,
            "skipped": done.skipped,
            **(describe_evaluation(evaluation, truth.table, truth.matches) if truth and evaluation else {}),
        }
        print_json(report)
        return
    what = f"{done.images} images, {counted(len(labels), 'label')}"
    report_written(f"{what} → {options.out}  [{engine.provider}, {rule}]")
    if truth and evaluation:
        print_evaluation(evaluation, truth.table, truth.matches)


def _check(options: argparse.Namespace, labels: Sequence[str]) -> None:
    """Fail before the work rather than after it."""
    check_output(options.out, (".csv",))
    check_rejects(options)
    if _ID in labels:
        raise InputError(f"A label is called '{_ID}', as the column of ids is. Rename it.")
    if not options.image_column:
        if options.id_column:
            raise InputError("--id-column is a column of tables, which also need --image-column.")
        texts = [name for name in options.inputs if name == "-" or Path(name).suffix.lower() in TEXT_SUFFIXES]
        if texts:
            raise InputError(f"{texts[0]} holds texts, but images are classified. Of a table give the --image-column.")
    if not options.inputs:
        raise InputError("There is nothing to classify: give image files, folders of images, patterns or tables.")


def _truth(options: argparse.Namespace, stream: Stream, labels: Sequence[str]) -> _Truth:
    """Read the labels and find whose they are, so that a mistake in either is known before the work."""
    table = read_truth(options.labels, labels, options.label_id_column)
    # An id that was given has a meaning of its own; otherwise it is the path.
    has_path = options.id_column is None
    matches = match_images(
        table, ((item.id, item.value if has_path and isinstance(item.value, str) else None) for item in stream)
    )
    if not matches.row_of:
        raise InputError(
            f"No row of {options.labels} belongs to an image: its column '{options.label_id_column}' has "
            f"{some(table.ids)}, the images are {some([*matches.unlabelled, *matches.ambiguous])}. "
            "Give ids that are paths, ends of paths or names of files, or --label-id-column."
        )
    return _Truth(table, matches)


def _classify(
    engine: Engine,
    classifier: ZeroShotClassifier,
    stream: Stream,
    options: argparse.Namespace,
    truth: _Truth | None,
) -> _Done:
    """Write the CSV file, a chunk of images in memory at a time; it appears whole or not at all."""
    skip_bad = skips_bad(options)
    row_of = truth.matches.row_of if truth else {}
    images = 0
    rejects: list[Reject] = []
    rows: list[int] = []
    kept: list[NDArray[np.float32]] = []
    with whole_file(options.out, options.force) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        file.write(csv_header(classifier.labels))
        for chunk in embed_stream(engine, stream, skip_bad):
            rejects += chunk.rejects
            images += len(chunk.ids)
            found = classifier.probabilities(chunk.rows)
            # The shortest digits that give the same float32 back; no rows once a bad image has ended the work.
            writer.writerows([clean_id(name), *map(str, row)] for name, row in zip(chunk.ids, found, strict=False))
            if row_of and len(found):
                labelled = [index for index, name in enumerate(chunk.ids) if name in row_of]
                rows += [row_of[chunk.ids[index]] for index in labelled]
                kept.append(found[labelled])
        settle_rejects(stream.part, rejects, images + len(rejects), skip_bad, options.rejects, options.force)
        if not images:
            raise InputError("Nothing is left to write: no image can be used.")
    return _Done(images, len(rejects), rows, kept)


def _evaluate(truth: _Truth, classifier: ZeroShotClassifier, done: _Done) -> Evaluation:
    judged = [classifier.labels.index(label) for label in truth.table.labels]
    probabilities = np.concatenate([np.empty((0, len(classifier.labels)), np.float32), *done.probabilities])
    return evaluate(truth.table.labels, truth.table.values[done.rows], probabilities[:, judged])
