"""`python -m bench headlines`: the first tables of several reports as one, by family."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.pages.headline_table import headline_table
from bench.pages.markdown import markdown_table
from bench.record import read_report
from runtime.process import print_result

__all__ = ["NAME", "SUMMARY", "add_options", "run"]

NAME = "headlines"
SUMMARY = "the first tables of several reports as one in Markdown, a family after the other"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT", help="report.json of a run")


def run(options: argparse.Namespace) -> int:
    """Print the table.

    Raises:
        OSError: a file cannot be read.
        PeerError: a file is no report.
    """
    print_result(markdown_table(headline_table(*(read_report(file) for file in options.reports))))
    return 0
