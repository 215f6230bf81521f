"""Is a synonym closer than a contradiction? The reference's triplet test, on its own sentences or yours.

Source: hi-ml-multimodal's test of its text engine: of each reference sentence the cosine with a sentence that says the
same must exceed the cosine with one that contradicts it. Equal cosines count as wrong.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.encoders import Encode, add_encoder_options, identity, load_text_engine, text_encoders
from bench.quality.text_tables import Sentences, read_sentences, settle
from export.samples import TRIPLETS
from runtime.commands.inputs import add_skip_bad
from runtime.process import print_json, print_result
from runtime.text.similarity import pairwise_similarity

__all__ = ["NAME", "SUMMARY", "add_options", "run"]

NAME = "triplets"
SUMMARY = "Share of triplets whose synonym is closer to the reference sentence than the contradiction."

_COLUMNS = ("reference", "synonym", "contradiction")
_SHOWN = 20
_CUT = 60


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_encoder_options(parser)
    parser.add_argument(
        "--data",
        type=Path,
        help=".jsonl, .csv or .parquet with the columns reference, synonym and contradiction (the reference's own)",
    )
    add_skip_bad(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    read = read_sentences(options.data, _COLUMNS) if options.data else None
    engine = load_text_engine(options)
    if read is None:
        rows = [Sentences(number, texts, "") for number, texts in enumerate(TRIPLETS, 1)]
    else:
        rows = settle(options.data, *read, engine.text.tokenizer, options.skip_bad)
    results: dict[str, Any] = {}
    cosines: list[NDArray[np.float32]] = []
    for name, encode in text_encoders(engine, options).items():
        cosines.append(_cosines(encode, rows))
        synonym, contradiction = cosines[-1]
        right = synonym > contradiction
        results[name] = {
            "accuracy": float(right.mean()),
            "right": int(right.sum()),
            "mean_margin": float((synonym - contradiction).mean()),
            "wrong_lines": [row.line for row, is_right in zip(rows, right, strict=True) if not is_right],
        }
    ours = cosines[0]
    report = {
        "data": options.data.name if options.data else "the reference's triplets",
        "triplets": len(rows),
        "results": results,
        "largest_difference": float(np.abs(ours - cosines[1]).max()) if len(cosines) > 1 else None,
        **identity(NAME, engine),
    }
    print_json(report) if options.json else _print(report, rows, ours)


def _cosines(encode: Encode, rows: list[Sentences]) -> NDArray[np.float32]:
    """float32 (2, N): of the reference with the synonym, and with the contradiction."""
    reference, synonym, contradiction = np.split(encode([row.texts[side] for side in range(3) for row in rows]), 3)
    return np.stack([pairwise_similarity(reference, synonym), pairwise_similarity(reference, contradiction)])


def _print(report: dict[str, Any], rows: list[Sentences], ours: NDArray[np.float32]) -> None:
    print_result(f"{report['triplets']} triplets of {report['data']}")
    for row, synonym, contradiction in list(zip(rows, *ours, strict=True))[:_SHOWN]:
        mark = "right" if synonym > contradiction else "WRONG"
        text = row.texts[0] if len(row.texts[0]) <= _CUT else row.texts[0][: _CUT - 1] + "…"
        print_result(f"  {mark}  synonym {synonym:+.4f}  contradiction {contradiction:+.4f}  {text}")
    if len(rows) > _SHOWN:
        print_result(f"  … and {len(rows) - _SHOWN} more")
    width = max(map(len, report["results"]))
    for name, found in report["results"].items():
        print_result(
            f"{name:{width}}  accuracy {found['accuracy']:.2%} ({found['right']} of {report['triplets']}), "
            f"mean margin {found['mean_margin']:+.4f}"
        )
    if report["largest_difference"] is not None:
        print_result(f"largest difference of a cosine: {report['largest_difference']:.1e}")
