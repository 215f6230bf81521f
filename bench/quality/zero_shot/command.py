"""How well images are classified without training, by prompts: accuracy, balanced accuracy and AUROC with intervals."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.encoders import PYTORCH, add_encoder_options, engine_name, identity, torch_threads
from bench.quality.torch_image import torch_images
from bench.quality.torch_text import torch_texts
from bench.quality.zero_shot.data import LabelledImages, labels_of, read_labelled
from bench.quality.zero_shot.figures import DRAWS, Figure, Figures, figures_of
from runtime.bundle.parts import COSINES
from runtime.commands.argument_types import count, seed
from runtime.commands.arguments import load_engine
from runtime.commands.inputs import add_skip_bad
from runtime.commands.prompting import AskedPrompts, add_prompts, as_mapping, asked_prompts
from runtime.engine import Engine
from runtime.errors import Fault, InputError
from runtime.process import print_json, print_note, print_result
from runtime.process.progress import Progress
from runtime.process.wording import counted
from runtime.tasks.evaluation import evaluate
from runtime.tasks.prompts import prompt_texts
from runtime.tasks.zero_shot import SCORES, merge_prompts

__all__ = ["NAME", "SUMMARY", "add_options", "run"]

NAME = "zero-shot"
SUMMARY = "How well labelled images are classified by prompts: accuracy, balanced accuracy, AUROC, with intervals."

_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "auroc": "AUROC", "recall": "recall"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_encoder_options(parser)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="a folder with a sub-folder for each label, named by it ('_' is a space); or a .csv file with a column "
        "for each label, of 1, 0, -1 (uncertain) or nothing, as CheXpert's",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder with the .csv file's images (its own)")
    parser.add_argument(
        "--label-id-column", default="id", metavar="COLUMN", help="of a .csv file: the column with the images' ids (id)"
    )
    add_prompts(parser, required=False)
    parser.add_argument("--draws", type=count, default=DRAWS, help=f"of the bootstrap ({DRAWS})")
    parser.add_argument("--seed", type=seed, default=0, help="of its draws (0)")
    add_skip_bad(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    asked = asked_prompts(options, labels_of(options.data, options.label_id_column))
    given = [each.label for each in asked.prompts]
    data = read_labelled(options.data, options.images, given, options.label_id_column)
    for note in data.notes:
        print_note(f"{options.data.name}: {note}")
    engine = load_engine(options, ["text", "image"])
    data, rows, skipped = _embedded(engine, data, options.skip_bad)
    probabilities = {engine_name(engine): _by_engine(engine, asked, rows)}
    if options.checkpoint is not None:
        probabilities[PYTORCH] = _by_pytorch(engine, options, asked, data.paths)
    judged = [given.index(label) for label in data.labels]
    figures = {
        name: figures_of(data.labels, data.truth, each[:, judged], options.draws, options.seed)
        for name, each in probabilities.items()
    }
    ours, *others = probabilities.values()
    counts = evaluate(data.labels, data.truth, ours[:, judged])
    report = {
        "data": options.data.name,
        "images": len(data.paths),
        "skipped": skipped,
        "labels": {
            each.label: {
                "images": each.images, "positives": each.positives, "uncertain": each.uncertain, "blank": each.blank
            }
            for each in counts.labels
        },
        "exclusive": next(iter(figures.values())).exclusive,
        "score": asked.score,
        "rule": asked.rule,
        "prompts": {each.label: {"positive": each.positive, "negative": each.negative} for each in asked.prompts},
        "draws": options.draws,
        "seed": options.seed,
        "results": {name: _described(each) for name, each in figures.items()},
        "largest_difference": max((float(np.abs(ours - other).max()) for other in others), default=None),
        **identity(NAME, engine),
    }  # fmt: skip
    print_json(report) if options.json else _print(report)


def _embedded(engine: Engine, data: LabelledImages, skip_bad: bool) -> tuple[LabelledImages, NDArray[np.float32], int]:
    """The images that can be used, their embeddings, and how many cannot."""
    faults: list[Fault] = []
    rows: list[NDArray[np.float32] | None] = []
    with Progress("image", len(data.paths)) as progress:
        for row in engine.image.encode_iter(data.paths, on_fault=faults.append):
            rows.append(row)
            progress.advance()
    kept = [index for index, row in enumerate(rows) if row is not None]
    if faults:
        error = InputError.from_faults("images", faults, len(data.paths))
        if not skip_bad:
            raise InputError(f"{error}\nMend them, or leave them out with --skip-bad.", faults)
        print_note(f"Left out: {error}")
    if not kept:
        raise InputError("None of the images can be used.")
    paths = tuple(data.paths[index] for index in kept)
    found = LabelledImages(paths, data.labels, data.truth[kept], data.notes)
    return found, np.stack([row for row in rows if row is not None]), len(faults)


def _by_engine(engine: Engine, asked: AskedPrompts, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    classifier = engine.zero_shot_classifier(as_mapping(asked.prompts), asked.rule, asked.score)
    return classifier.probabilities(rows)


def _by_pytorch(
    engine: Engine, options: argparse.Namespace, asked: AskedPrompts, paths: tuple[str, ...]
) -> NDArray[np.float32]:
    """PyTorch's embeddings of texts and images; how they become probabilities is the same."""
    threads, joint = torch_threads(options), engine.manifest.joint or COSINES
    texts = torch_texts(engine, options.checkpoint, threads, normalize=False)
    projections = texts(prompt_texts(asked.prompts, SCORES[asked.score].sides))
    classifier = merge_prompts(projections, asked.prompts, asked.rule, asked.score, joint.logit_scale, joint.logit_bias)
    return classifier.probabilities(torch_images(engine, options.checkpoint, threads)(paths))


def _described(figures: Figures) -> dict[str, Any]:
    overall = {name: asdict(figure) for name, figure in figures.overall.items()}
    by_label = {
        label: {name: asdict(figure) for name, figure in each.items()} for label, each in figures.labels.items()
    }
    return {**overall, "labels": by_label}


def _print(report: dict[str, Any]) -> None:
    counts = report["labels"]
    print_result(
        f"{report['data']}: {report['images']} images, {counted(len(counts), 'label')}, left out: {report['skipped']}; "
        f"score {report['score']}, rule {report['rule']}"
    )
    kinds = next(iter(next(iter(report["results"].values()))["labels"].values()))
    width = max(len(name) for name in (*counts, "all labels")) + 2
    for name, found in report["results"].items():
        print_result(f"\n{name}, with 95 % intervals of {report['draws']} draws")
        print_result(f"{'':{width}}{'images':>7}{'positive':>10}" + "".join(f"{_NAMES[kind]:>22}" for kind in kinds))
        for label, figures in found["labels"].items():
            cells = "".join(f"{_cell(Figure(**figures[kind])):>22}" for kind in kinds)
            print_result(f"{label:{width}}{counts[label]['images']:>7}{counts[label]['positives']:>10}{cells}")
        overall = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "mean_auroc": "mean AUROC"}
        line = ", ".join(f"{said} {_cell(Figure(**found[key]))}" for key, said in overall.items())
        print_result(f"{'all labels':{width}}{line}")
    if report["largest_difference"] is not None:
        print_result(f"\nlargest difference of a probability: {report['largest_difference']:.1e}")


def _cell(figure: Figure) -> str:
    if figure.value is None:
        return "–"
    ends = "" if figure.low is None else f" ({figure.low:.3f}–{figure.high:.3f})"
    return f"{figure.value:.3f}{ends}"
