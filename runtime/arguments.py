"""The options of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.embed import PART_ROWS
from runtime.precision import MIN_FIDELITY
from runtime.providers import PROVIDERS
from runtime.tune import BUDGET
from runtime.tuned import GOALS

__all__ = ["RESEARCH_ONLY", "parse"]

RESEARCH_ONLY = "For research only, not for clinical use."


def parse(commands: Mapping[str, Callable[[argparse.Namespace], None]], arguments: Sequence[str] | None) -> Any:
    """Parse; inputs may stand among the options, which argparse (before 3.12) takes for too many arguments.

    Args:
        commands: what each runs; it becomes the option `run`.
        arguments: None takes those of the process.
    """
    parser = _parser(commands)
    options, others = parser.parse_known_args(arguments)
    unknown = [name for name in others if name.startswith("-") and name != "-"]
    if unknown or (others and "inputs" not in options):
        parser.error(f"unrecognized arguments: {' '.join(unknown or others)}")
    if others:
        options.inputs += others
    return options


def _parser(runs: Mapping[str, Callable[[argparse.Namespace], None]]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtime", description=f"Run CXR-BERT and BioViL from a bundle. {RESEARCH_ONLY}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument(
        "--precision",
        default="auto",
        metavar="{auto,fp32,bf16,int8,…}",
        help="what to compute in; auto takes the fastest that was measured to be faithful enough, else fp32 (auto)",
    )
    chosen.add_argument(
        "--min-fidelity",
        type=float,
        default=MIN_FIDELITY,
        metavar="COSINE",
        help=f"smallest mean cosine to PyTorch fp32, on held-out data, that auto accepts ({MIN_FIDELITY:g})",
    )
    shared = argparse.ArgumentParser(add_help=False, parents=[chosen])
    shared.add_argument("--provider", default="auto", choices=["auto", *PROVIDERS], help="inference engine (auto)")
    shared.add_argument("--threads", type=int, help="threads of the engine (all processors)")
    shared.add_argument(
        "--keep-monochrome1",
        action="store_true",
        help="leave MONOCHROME1 DICOM inverted, as the reference implementation does",
    )
    shared.add_argument(
        "--fast-decode",
        action="store_true",
        help="decode large JPEG files at a fraction of their size: 2 to 5 times as fast, not the reference's pixels",
    )

    shared.add_argument(
        "--share",
        action="store_true",
        help="other processes use the same processors: threads that wait do not spin",
    )

    def command(name: str, summary: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary, parents=list(parents))
        added.set_defaults(run=runs[name])
        added.add_argument("bundle", help="folder written by python -m export")
        return added

    embed = command("embed", "Embed images or texts into one file or a folder of Parquet parts.", shared)
    embed.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="image files, folders of images, quoted patterns ('films/**/*.dcm'), .txt (a text a line), .csv, .jsonl "
        "or .parquet files, or - for lines of stdin",
    )
    embed.add_argument("--text", action="append", default=[], help="a text to embed; may be repeated")
    embed.add_argument(
        "--out",
        required=True,
        help="a folder, for any number of items; or NAME.npy (ids in NAME.ids.txt) or NAME.parquet, held in memory",
    )
    column = embed.add_mutually_exclusive_group()
    column.add_argument("--column", default="text", help="text column of .csv, .jsonl and .parquet files (text)")
    column.add_argument(
        "--image-column", metavar="COLUMN", help="take images instead: column of paths, relative to the table's folder"
    )
    embed.add_argument(
        "--id-column",
        metavar="COLUMN",
        help="id column of .csv, .jsonl and .parquet files (file:row; for images the path)",
    )
    embed.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out what cannot be used, and list it; a folder always does, but for formats that lack a package",
    )
    embed.add_argument("--rejects", type=Path, metavar="NAME.jsonl", help="list what cannot be used there, and skip it")
    embed.add_argument("--resume", action="store_true", help="go on where a run into the same folder stopped")
    embed.add_argument(
        "--part-rows",
        type=_positive,
        default=PART_ROWS,
        metavar="N",
        help=f"items of one part of a folder; a killed run loses at most as many ({PART_ROWS})",
    )

    similarity = command("similarity", "Print how similar an image and a phrase are.", shared)
    similarity.add_argument("image", help="image file")
    similarity.add_argument("phrases", nargs="+", metavar="PHRASE", help="a phrase, or several that mean the same")
    similarity.add_argument("--json", action="store_true", help="print JSON")

    ground = command("ground", "Draw where an image resembles a phrase.", shared)
    ground.add_argument("image", help="image file")
    ground.add_argument("phrase", metavar="PHRASE", help="one phrase")
    ground.add_argument("--out", type=Path, help="the .png file to write (IMAGE-grounding.png)")
    ground.add_argument("--save-map", type=Path, metavar="NPY", help="write the map as well, float32 (H, W)")

    info = command("info", "Show what a bundle holds, verify its digests, and list this machine's engines.", chosen)
    info.add_argument("--json", action="store_true", help="print JSON")

    about = (
        "Look at this machine, run a tiny graph on every engine, and say what is in the way of those that do not run."
    )
    doctor = commands.add_parser(
        "doctor",
        help=about,
        description=f"{about} Exit status 1 if no engine runs, or BUNDLE cannot be loaded; else 0.",
    )
    doctor.set_defaults(run=runs["doctor"])
    doctor.add_argument("bundle", nargs="?", help="also say what loading this bundle would choose")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    _add_tune(command)
    return parser


def _add_tune(command: Callable[..., argparse.ArgumentParser]) -> None:
    tune = command(
        "tune",
        "Measure engines, precisions, streams and batches on this machine, and store what auto then takes.",
    )
    tune.add_argument(
        "--budget", type=float, default=BUDGET, metavar="SECONDS", help=f"begin nothing more after so many ({BUDGET:g})"
    )
    tune.add_argument(
        "--provider", action="append", default=[], choices=[*PROVIDERS], help="only this engine; may be repeated"
    )
    tune.add_argument(
        "--part", action="append", default=[], choices=["text", "image"], help="only this part; may be repeated"
    )
    tune.add_argument(
        "--threads", type=_numbers, default=[], metavar="N,N,…", help="numbers of threads to try (the cores)"
    )
    tune.add_argument(
        "--min-fidelity",
        type=float,
        default=MIN_FIDELITY,
        metavar="COSINE",
        help=f"pass over what has a smaller recorded mean cosine; fp32 always qualifies ({MIN_FIDELITY:g})",
    )
    tune.add_argument(
        "--for",
        dest="goal",
        default=GOALS[0],
        choices=GOALS,
        help="what decides: items a second in bulk work, or the time of one short text or image alone (throughput)",
    )
    tune.add_argument("--json", action="store_true", help="print JSON")


def _numbers(text: str) -> list[int]:
    return [_positive(number) for number in text.split(",")]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number
