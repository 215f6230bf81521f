"""`python -m bench run`, which is `python -m bench`: the options of a run, and what it prints."""

from __future__ import annotations

import argparse
import shlex
import shutil
import tempfile
import time
from pathlib import Path

from bench.pages import page_files, write_pages
from bench.record import MEASURED, OUT_OF_TIME, Report
from bench.record.cuts import cuts
from bench.record.headlines import headlines
from bench.session import Request, measure
from bench.workloads.field import FIELDS
from bench.workloads.table import WORKLOADS
from runtime.commands.argument_types import count, names, positive, seed
from runtime.commands.arguments import add_force
from runtime.commands.command_line import INTERRUPTED
from runtime.engines import default_threads
from runtime.files import check_destinations, files_below
from runtime.process import print_note, report_written
from runtime.process.wording import few

__all__ = ["NAME", "SUMMARY", "add_options", "run"]

NAME = "run"
SUMMARY = "measure this engine beside what users run today, and write report.html, report.md and report.json"

# Cases named in a line.
_SHOWN = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "workloads:\n" + "\n".join(f"  {each.name:11} {each.summary}" for each in WORKLOADS.values())
    for of, entries in FIELDS.items():
        parser.epilog += f"\n\npeers of {of}:\n"
        parser.epilog += "\n".join(f"  {entry.name:27} {entry.contestant.label}" for entry in entries)
    parser.epilog += "\n\nand engine-PROVIDER-PRECISION, or engine for all of the bundle"
    parser.add_argument("--checkpoint", type=Path, help="checkpoint folder (default: random weights of the real size)")
    parser.add_argument("--bundle", type=Path, help="the bundle of that checkpoint (default: it is exported)")
    parser.add_argument("--family", default="biovil", help="of python -m export --list, for what is exported (biovil)")
    parser.add_argument("--precision", default="fp32,int8", metavar="LIST", help="of the export (fp32,int8)")
    parser.add_argument("--workloads", type=names, default=(), metavar="LIST", help="these alone (default: all)")
    parser.add_argument(
        "--peers", type=names, default=(), metavar="LIST", help="these and the reference (default: all)"
    )
    parser.add_argument("--out", type=Path, default=Path("bench-report"), help="folder of the report (bench-report)")
    parser.add_argument(
        "--work", type=Path, help="folder for what is made, taken again by later runs (default: none is kept)"
    )
    parser.add_argument("--threads", type=count, default=default_threads(), help="of each contestant (all cores)")
    parser.add_argument("--rounds", type=count, default=5, help="counted rounds, at most (5)")
    parser.add_argument("--seed", type=seed, default=0, help="of what is drawn at random (0)")
    parser.add_argument(
        "--texts", type=Path, help=".jsonl or .txt (a text a line) as corpus (default: synthetic reports)"
    )
    parser.add_argument("--column", default="text", help="of .jsonl (text)")
    parser.add_argument(
        "--full", action="store_true", help="all shapes and peers, larger corpora, without a bound on the time"
    )
    parser.add_argument(
        "--minutes",
        type=positive,
        help="in all: the first questions come first, and get fewer rounds, smaller parts and fewer peers as needed",
    )
    add_force(parser)


def run(options: argparse.Namespace) -> int:
    """Measure, write, and print the first table."""
    _check_out(options)
    work = options.work or Path(tempfile.mkdtemp(prefix="cxr-bench-"))
    work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    request = Request(
        checkpoint=options.checkpoint,
        bundle=options.bundle,
        family=options.family,
        precisions=options.precision,
        seed=options.seed,
        workloads=options.workloads,
        peers=options.peers,
        threads=options.threads,
        rounds=options.rounds,
        full=options.full,
        minutes=options.minutes,
        texts=options.texts,
        column=options.column,
        command=_command(options),
    )
    began = time.monotonic()

    def progress(message: str) -> None:
        print_note(f"[{time.monotonic() - began:5.0f} s] {message}")

    try:
        report = measure(request, work, options.out, progress, options.force)
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
    pages = write_pages(report, options.out, options.force)
    _print(report, options.out / "report.html" if pages else options.out)
    return INTERRUPTED if report.partial == "interrupted" else 0


def _check_out(options: argparse.Namespace) -> None:
    """Fail before the work rather than after it."""
    files = {**page_files(options.out), "report.json": options.out / "report.json"}
    inputs = [*([options.texts] if options.texts else []), *(files_below(options.checkpoint or ""))]
    check_destinations(
        {f"{name}:": file for name, file in files.items()},
        inputs,
        sealed=[options.bundle] if options.bundle else [],
        force=options.force,
    )


def _print(report: Report, page: Path) -> None:
    for each in headlines(report):
        ours, theirs = (report.contestant(name).label for name in (each.ours, each.theirs))
        ratio = each.ratio
        times = f"{ratio.value:.2f} × ({ratio.low:.2f}–{ratio.high:.2f})"
        report_written(f"{each.question}: {times}, {ours} against {each.against}, {theirs}")
    for (name, status, reason), cases in _unmeasured(report).items():
        report_written(f"{report.contestant(name).label}: {status} in {few(cases, _SHOWN)}: {reason}")
    for line in cuts(report):
        report_written(f"Cut for time: {line}")
    if report.partial:
        report_written(f"PARTIAL: {report.partial}")
    report_written(f"Report: {page}  ({report.seconds:.0f} s)")


def _unmeasured(report: Report) -> dict[tuple[str, str, str], list[str]]:
    """Contestant, status and the end of the reason → names of cases."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for case in report.cases:
        for row in case.rows:
            if row.status != MEASURED and row.reason != OUT_OF_TIME:
                last = row.reason.strip().splitlines()[-1:] or [""]
                found.setdefault((row.contestant, row.status, last[0]), []).append(case.name)
    return found


def _command(options: argparse.Namespace) -> str:
    """What was typed, as far as it says what is measured: without the folders, which are the machine's."""
    parts = ["python -m bench"]
    parts += ["--full"] if options.full else []
    for name in ("checkpoint", "bundle", "texts"):
        if getattr(options, name):
            parts.append(f"--{name} {shlex.quote(getattr(options, name).name)}")
    for name in ("workloads", "peers"):
        if getattr(options, name):
            parts.append(f"--{name} {shlex.quote(','.join(getattr(options, name)))}")
    parts += [f"--precision {options.precision}"] if options.bundle is None else []
    parts += [f"--minutes {options.minutes:g}"] if options.minutes else []
    return " ".join([*parts, f"--threads {options.threads} --rounds {options.rounds} --seed {options.seed}"])
