"""Does the cosine of two sentences tell entailment from contradiction? RadNLI and MedNLI, zero-shot.

The model is not trained on the task: a pair's score is the cosine of its projected [CLS] embeddings, entailment is the
positive class, contradiction the negative, and neutral pairs are left out: "RadNLI (2 classes)" of the table on
BioViL-T's model card, which gives CXR-BERT-specialized an accuracy of 89.66 % and a ROC-AUC of 0.932. (The RadNLI
figures in Boecking et al., ECCV 2022, are another task: three classes, after fine-tuning on MedNLI.)

ROC-AUC needs no threshold. Accuracy does, and the card does not say how its threshold was found. Here it is the one of
the best accuracy on the pairs of --dev (RadNLI's development half, say) and is then applied to --data unchanged.
Without --dev it is the best for --data itself, which no other threshold can exceed: the report says so.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.encoders import Encode, add_encoder_options, identity, load_text_engine, text_encoders
from bench.quality.text_tables import Sentences, read_sentences, settle
from runtime.commands.inputs import add_skip_bad
from runtime.engine import Engine
from runtime.errors import InputError
from runtime.process import print_json, print_result
from runtime.tasks.metrics import accuracy, roc_auc
from runtime.text.similarity import pairwise_similarity

__all__ = ["NAME", "SUMMARY", "add_options", "best_threshold", "run"]

NAME = "radnli"
SUMMARY = "Entailment or contradiction by the cosine of two sentences, zero-shot: ROC-AUC and accuracy."

_COLUMNS = ("sentence1", "sentence2")
_LABEL = "gold_label"
_POSITIVE, _NEGATIVE, _LEFT_OUT = "entailment", "contradiction", "neutral"
_LABELS = (_POSITIVE, _LEFT_OUT, _NEGATIVE)


@dataclass(frozen=True)
class Pairs:
    """The pairs of a file that count.

    Attributes:
        file: where they stand.
        texts: two sentences each.
        truth: bool (N,): entailment.
        counts: number of rows of each label, neutral ones too.
        skipped: rows that could not be used.
    """

    file: Path
    texts: list[tuple[str, ...]]
    truth: NDArray[np.bool_]
    counts: dict[str, int]
    skipped: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_encoder_options(parser)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="JSON lines as RadNLI and MedNLI have them: sentence1, sentence2, gold_label (entailment, neutral, "
        "contradiction); .csv and .parquet with these columns too",
    )
    parser.add_argument(
        "--dev",
        type=Path,
        help="other pairs, to set the threshold of accuracy on (otherwise it is the best for --data)",
    )
    add_skip_bad(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    files = [options.data, *([options.dev] if options.dev else [])]
    read = [read_sentences(file, _COLUMNS, _LABEL, _LABELS) for file in files]
    engine = load_text_engine(options)
    data, *dev = (
        _pairs(file, settle(file, rows, faults, engine.text.tokenizer, options.skip_bad), len(rows) + len(faults))
        for file, (rows, faults) in zip(files, read, strict=True)
    )
    scores: dict[str, NDArray[np.float64]] = {}
    results: dict[str, dict[str, float]] = {}
    for name, encode in text_encoders(engine, options).items():
        scores[name] = _scores(encode, data)
        threshold = best_threshold(*((dev[0].truth, _scores(encode, dev[0])) if dev else (data.truth, scores[name])))
        results[name] = {
            "roc_auc": roc_auc(data.truth, scores[name]),
            "accuracy": accuracy(data.truth, scores[name] >= threshold),
            "threshold": threshold,
        }
    ours = next(iter(scores.values()))
    difference = max(float(np.abs(ours - other).max()) for other in scores.values())
    report = _report(engine, data, dev[0] if dev else None, results, difference if len(scores) > 1 else None)
    print_json(report) if options.json else _print(report)


def best_threshold(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """The threshold of the best accuracy, where a score of at least the threshold means positive.

    Args:
        truth: (N,) bool.
        scores: (N,) float64.

    Returns:
        Half-way between two neighbouring scores, the smallest score (everything is positive), or the next number above
        the greatest (nothing is). Of several that are equally good the smallest.
    """
    values = np.unique(scores)
    candidates = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, [np.nextafter(values[-1], np.inf)]])
    # Right are the positives at or above a candidate and the negatives below it.
    positives, negatives = np.sort(scores[truth]), np.sort(scores[~truth])
    right = len(positives) - np.searchsorted(positives, candidates) + np.searchsorted(negatives, candidates)
    return float(candidates[np.argmax(right)])


def _pairs(file: Path, rows: list[Sentences], total: int) -> Pairs:
    counts = Counter(row.label for row in rows)
    for label in (_POSITIVE, _NEGATIVE):
        if not counts[label]:
            found = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise InputError(f"{file} has no pair of {label} ({found}); both it and the other class are needed.")
    chosen = [row for row in rows if row.label != _LEFT_OUT]
    truth = np.array([row.label == _POSITIVE for row in chosen])
    return Pairs(
        file, [row.texts for row in chosen], truth, {name: counts[name] for name in _LABELS}, total - len(rows)
    )


def _scores(encode: Encode, pairs: Pairs) -> NDArray[np.float64]:
    count = len(pairs.texts)
    embeddings = encode([texts[side] for side in range(2) for texts in pairs.texts])
    # Half-way between two neighbouring scores there is no float32 that tells them apart.
    return pairwise_similarity(embeddings[:count], embeddings[count:]).astype(np.float64)


def _report(
    engine: Engine, data: Pairs, dev: Pairs | None, results: dict[str, dict[str, float]], difference: float | None
) -> dict[str, Any]:
    return {
        "data": _described(data),
        "dev": _described(dev) if dev else None,
        "threshold_set_on": "dev" if dev else "data (an upper bound)",
        "results": results,
        "largest_difference": difference,
        **identity(NAME, engine),
    }


def _described(pairs: Pairs) -> dict[str, Any]:
    return {"file": pairs.file.name, **pairs.counts, "skipped": pairs.skipped}


def _print(report: dict[str, Any]) -> None:
    data, dev = report["data"], report["dev"]
    used = f"{data[_POSITIVE]} entailment, {data[_NEGATIVE]} contradiction"
    print_result(f"{data['file']}: {used}; left out: {data[_LEFT_OUT]} neutral, {data['skipped']} unusable")
    if dev:
        print_result(f"threshold: of the best accuracy on {dev['file']} ({dev[_POSITIVE] + dev[_NEGATIVE]} pairs)")
    else:
        print_result("threshold: of the best accuracy on these very pairs, an upper bound; set it on others with --dev")
    width = max(map(len, report["results"]))
    print_result(f"{'':{width}}  ROC-AUC  accuracy  threshold")
    for name, found in report["results"].items():
        print_result(f"{name:{width}}  {found['roc_auc']:7.3f}  {found['accuracy']:7.2%}  {found['threshold']:+9.4f}")
    if report["largest_difference"] is not None:
        print_result(f"largest difference of a pair's cosine: {report['largest_difference']:.1e}")
