"""How often the masked-language head finds a masked token of whole texts; see `runtime.text.masked_accuracy`.

Boecking et al. (ECCV 2022, table 2) report this figure for their masked-language task on the reports of MIMIC-CXR.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.quality.encoders import PYTORCH, add_encoder_options, engine_name, identity, load_text_engine, torch_threads
from bench.quality.torch_text import torch_masked_accuracy
from runtime.archive import collect_items
from runtime.commands.argument_types import seed
from runtime.commands.inputs import add_text_column
from runtime.errors import Fault, InputError
from runtime.process import print_json, print_result

__all__ = ["NAME", "SUMMARY", "add_options", "run"]

NAME = "masked"
SUMMARY = "Mask prediction accuracy: how often the token that was masked is the one the model puts first."

_SHARE = 0.15


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_encoder_options(parser)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help=".txt (a text a line), .csv, .jsonl or .parquet; blank texts do not count",
    )
    add_text_column(parser)
    parser.add_argument(
        "--masked-share", type=float, default=_SHARE, help=f"of each text's tokens, masked at once ({_SHARE:g})"
    )
    parser.add_argument("--one-at-a-time", action="store_true", help="mask every token in turn: a pass for each")
    parser.add_argument("--seed", type=seed, default=0, help="of the choice of tokens (0)")
    parser.add_argument("--skip-bad", action="store_true", help="leave out texts that cannot be used, and count them")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    faults: list[Fault] = []
    on_fault = faults.append if options.skip_bad else None
    read = collect_items([str(options.data)], [], options.column, None, on_fault)
    if read.part != "text":
        raise InputError(f"{options.data} holds images; texts are expected.")
    texts = [value for value in read.values if not (isinstance(value, str) and not value.strip())]
    if not texts:
        raise InputError(f"{options.data} holds no texts.")
    engine = load_text_engine(options)
    chosen: dict[str, Any] = {
        "share": options.masked_share, "one_at_a_time": options.one_at_a_time, "seed": options.seed
    }  # fmt: skip
    found = engine.text.masked_token_accuracy(texts, **chosen, on_fault=on_fault)
    if not found.masked:
        raise InputError(f"{options.data} holds no text that can be used.")
    results = {engine_name(engine): (found.correct, found.masked)}
    if options.checkpoint is not None:
        results[PYTORCH] = torch_masked_accuracy(engine, options.checkpoint, torch_threads(options), texts, **chosen)
    report = {
        "data": options.data.name,
        "texts": found.texts,
        "skipped": len(faults),
        **chosen,
        "results": {
            name: {"accuracy": correct / masked, "correct": correct, "masked": masked}
            for name, (correct, masked) in results.items()
        },
        **identity(NAME, engine),
    }
    print_json(report) if options.json else _print(report)


def _print(report: dict[str, Any]) -> None:
    how = "every token in turn" if report["one_at_a_time"] else f"{report['share']:.0%} at once, seed {report['seed']}"
    print_result(f"{report['data']}: {report['texts']} texts, left out: {report['skipped']}; masked: {how}")
    width = max(map(len, report["results"]))
    for name, found in report["results"].items():
        print_result(f"{name:{width}}  {found['accuracy']:7.2%}  ({found['correct']} of {found['masked']})")
