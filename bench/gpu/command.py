"""`python -m bench gpu-check`: the options, what is printed, and the exit status."""

from __future__ import annotations

import argparse
import shlex
import shutil
import tempfile
import time
from pathlib import Path

from bench.gpu.check import Check, check_gpu
from bench.gpu.goals import SPEEDS
from bench.pages import page_files, write_pages
from bench.record import MET, MISSED, NOT_RUN, Report
from runtime.commands.argument_types import count, positive, seed
from runtime.commands.arguments import add_force
from runtime.commands.command_line import DONE, FAILED, INTERRUPTED, NO_GPU
from runtime.engines import PROVIDERS, default_threads, first_gpu, unavailable_reason
from runtime.engines.gpu import library_fault
from runtime.files import check_destinations, files_below
from runtime.process import print_note, print_result, report_written

__all__ = ["NAME", "SUMMARY", "add_options", "missing_gpu", "run"]

NAME = "gpu-check"
SUMMARY = "whether what runs on the GPU is right, and as fast as it is meant to be: each goal met, missed or not run"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "goals, beside the gates of the exports for every precision:\n"
    parser.epilog += "\n".join(f"  {each.name:10} {each.asked}" for each in SPEEDS)
    parser.epilog += (
        "\n\nexit status: 0 every goal is met; 1 a goal was missed or, for want of time, not run; "
        f"{NO_GPU} there is no GPU to run on"
    )
    parser.add_argument("--checkpoint", type=Path, help="checkpoint folder (default: random weights of the real size)")
    parser.add_argument("--bundle", type=Path, help="the bundle of that checkpoint (default: it is exported)")
    parser.add_argument("--family", default="biovil", help="of python -m export --list, for what is exported (biovil)")
    parser.add_argument("--precision", default="fp32,fp16,bf16", metavar="LIST", help="of the export (fp32,fp16,bf16)")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"), help="folder of the report (gpu-report)")
    parser.add_argument(
        "--work", type=Path, help="folder for what is made, taken again by later runs (default: none is kept)"
    )
    parser.add_argument("--threads", type=count, default=default_threads(), help="of each contestant (all cores)")
    parser.add_argument("--rounds", type=count, default=5, help="counted rounds, at most (5)")
    parser.add_argument("--seed", type=seed, default=0, help="of what is drawn at random (0)")
    parser.add_argument("--minutes", type=positive, default=8.0, help="in all; what they do not reach is not run (8)")
    parser.add_argument(
        "--stand-in",
        action="store_true",
        help="try the way on a machine without a GPU: the processor takes its place, and every goal is not run",
    )
    add_force(parser)


def missing_gpu() -> str:
    """Why CUDA cannot be used here, with what to do; "" where nothing speaks against it."""
    if first_gpu() is None:
        return (
            "There is no NVIDIA GPU here, or its driver does not answer (nvidia-smi tells): nothing was checked. "
            "To try the way without one: python -m bench gpu-check --stand-in"
        )
    reason = unavailable_reason(PROVIDERS["cuda"])
    if reason is None:
        fault = library_fault("CUDAExecutionProvider")
        reason = fault and f"CUDA cannot be used: {fault}"
    return reason or ""


def run(options: argparse.Namespace) -> int:
    """Check, write the report, print each goal.

    Returns:
        0 if all goals are met; 1 if one is missed or was not run; `NO_GPU`, with --stand-in too, where nothing could be
        checked; 130 if it was interrupted: what was measured is written.

    Raises:
        PeerError, CxrEngineError, OSError: nothing can be measured at all.
    """
    missing = "" if options.stand_in else missing_gpu()
    if missing:
        print_note(missing)
        return NO_GPU
    _check_out(options)
    work = options.work or Path(tempfile.mkdtemp(prefix="cxr-gpu-check-"))
    work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    check = Check(
        checkpoint=options.checkpoint,
        bundle=options.bundle,
        family=options.family,
        precisions=options.precision,
        seed=options.seed,
        threads=options.threads,
        rounds=options.rounds,
        minutes=options.minutes,
        stand_in=options.stand_in,
        command=_command(options),
    )
    began = time.monotonic()
    try:
        report = check_gpu(
            check,
            work,
            options.out,
            lambda message: print_note(f"[{time.monotonic() - began:5.0f} s] {message}"),
            options.force,
        )
        page = write_pages(report, options.out, options.force)[0]
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
    return _print(report, page, options.stand_in)


def _check_out(options: argparse.Namespace) -> None:
    """Fail before the work rather than after it."""
    files = {**page_files(options.out), "report.json": options.out / "report.json"}
    check_destinations(
        {f"{name}:": file for name, file in files.items()},
        [*files_below(options.checkpoint or "")],
        sealed=[options.bundle] if options.bundle else [],
        force=options.force,
    )


def _print(report: Report, page: Path, stand_in: bool) -> int:
    for goal in report.goals:
        told = "; ".join(each for each in (goal.found, goal.reason) if each)
        print_result(f"{goal.status:8} {goal.name}: {goal.asked}{f' – {told}' if told else ''}")
    counts = [f"{sum(goal.status == status for goal in report.goals)} {status}" for status in (MET, MISSED, NOT_RUN)]
    print_result(", ".join(counts))
    if report.partial:
        report_written(f"PARTIAL: {report.partial}")
    report_written(f"Report: {page}  ({report.seconds:.0f} s)")
    if report.partial == "interrupted":
        return INTERRUPTED
    if stand_in:
        return NO_GPU
    return DONE if all(goal.status == MET for goal in report.goals) else FAILED


def _command(options: argparse.Namespace) -> str:
    """What was typed, as far as it says what is measured: without the folders, which are the machine's."""
    parts = ["python -m bench gpu-check"]
    for name in ("checkpoint", "bundle"):
        if getattr(options, name):
            parts.append(f"--{name} {shlex.quote(getattr(options, name).name)}")
    parts += [f"--precision {options.precision}"] if options.bundle is None else []
    parts += ["--stand-in"] if options.stand_in else []
    parts += [f"--minutes {options.minutes:g} --threads {options.threads}"]
    return " ".join([*parts, f"--rounds {options.rounds} --seed {options.seed}"])
