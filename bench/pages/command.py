"""`python -m bench report`: write the pages of a report again, from its JSON."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.pages import page_files, write_pages
from bench.record import read_report
from runtime.commands.arguments import add_force
from runtime.files import check_destinations
from runtime.process import report_written

__all__ = ["NAME", "SUMMARY", "add_options", "run"]

NAME = "report"
SUMMARY = "Write report.html, report.md and the plots again from a report.json; nothing is measured."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("report", type=Path, metavar="REPORT.JSON", help="what a run of python -m bench wrote")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the pages go (the folder of REPORT.JSON)")
    add_force(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command and print the files written.

    Raises:
        InputError: a page would overwrite the report, or a file that this program did not write.
        PeerError: the file is no report, or a library is missing.
        OSError: a file cannot be read or written.
    """
    folder = options.out or options.report.parent
    files = {f"{name}:": file for name, file in page_files(folder).items()}
    check_destinations(files, [options.report], force=options.force)
    for file in write_pages(read_report(options.report), folder, options.force):
        report_written(str(file))
