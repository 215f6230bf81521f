"""Measure engines, precisions, streams and batches on this machine, and store what auto then takes."""

from __future__ import annotations

import argparse

from runtime.bundle import open_bundle
from runtime.choice.tune import BUDGET, Report, tune
from runtime.choice.tune_table import describe_report, print_report
from runtime.choice.tuned import GOALS, write_tuning
from runtime.commands.argument_types import counts
from runtime.commands.arguments import add_bundle, add_json, add_min_fidelity
from runtime.engines import PROVIDERS
from runtime.errors import CxrEngineError
from runtime.process import print_json, print_note

NAME = "tune"
SUMMARY = "Measure engines, precisions, streams and batches on this machine, and store what auto then takes."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    parser.add_argument(
        "--budget", type=float, default=BUDGET, metavar="SECONDS", help=f"begin nothing more after so many ({BUDGET:g})"
    )
    parser.add_argument(
        "--provider", action="append", default=[], choices=[*PROVIDERS], help="only this engine; may be repeated"
    )
    parser.add_argument(
        "--part", action="append", default=[], choices=["text", "image"], help="only this part; may be repeated"
    )
    parser.add_argument(
        "--threads", type=counts, default=(), metavar="N,N,…", help="numbers of threads to try (the cores)"
    )
    add_min_fidelity(parser, "pass over what has a smaller recorded mean cosine; fp32 always qualifies")
    parser.add_argument(
        "--for",
        dest="goal",
        default=GOALS[0],
        choices=GOALS,
        help="what decides: items a second in bulk work, or the time of one short text or image alone (throughput)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    report = tune(
        options.bundle,
        options.budget,
        providers=options.provider,
        parts=options.part,
        threads=options.threads,
        min_fidelity=options.min_fidelity,
        goal=options.goal,
    )
    try:
        # Before anything is printed: the reader of the table may be gone.
        file = write_tuning(open_bundle(options.bundle), report.tuning)
    except CxrEngineError:
        _print(report, options.json)  # what was measured is not lost where it cannot be stored
        raise
    _print(report, options.json)
    print_note(f"stored for load() and the commands here: {file}")


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        print_json(describe_report(report))
    else:
        print_report(report)
