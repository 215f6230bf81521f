"""The command line: `python -m export FAMILY --checkpoint SOURCE --out DIR`."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
import time
from pathlib import Path
from typing import Any

from export.cards import CARDS
from export.families import FAMILIES, Family
from export.options import add_zero_shot_options, asked_zero_shot
from runtime.bundle.precisions import PRECISIONS
from runtime.commands.argument_types import count, names, positive, seed
from runtime.commands.arguments import add_force, add_json
from runtime.commands.command_line import DONE, LEFT_OUT, run_command_line
from runtime.commands.parsing import CommandParser
from runtime.engines import PROVIDERS
from runtime.errors import MissingExtraError
from runtime.process import print_json, print_result

# Those beside the export itself: module and what it does.
_COMMANDS = {
    "verify": ("export.proof.verify", "Verifying"),
    "tensorrt": ("export.tensorrt", "Building engines"),
    "triton": ("export.triton.command", "Writing a model repository"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status, see `run_command_line`; where it failed no bundle was left.

    3 is a bundle that lacks a precision that was asked for.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in _COMMANDS:
        return run_command_line(lambda: _run(*arguments))
    return run_command_line(lambda: _export(arguments), undone="; no bundle was written")


def _export(arguments: list[str]) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        _print_families()
        return DONE
    if options.family is None:
        parser.error("name a system, or see them with --list")
    if options.checkpoint is None or options.out is None:
        parser.error("--checkpoint and --out are needed")
    _check_lowering(parser, options)
    started = time.monotonic()
    try:
        from export.build import CalibrationSources, export_bundle
        from export.precision import Lowering
        from export.samples.zero_shot import ZeroShotSources
    except ImportError as error:
        raise MissingExtraError("Exporting", error.name or str(error), "export") from error
    manifest = export_bundle(
        _chosen_family(parser, options),
        options.checkpoint,
        options.out,
        seed=options.seed,
        revision=options.revision,
        provider=options.provider,
        force=options.force,
        lowering=Lowering(
            options.precision,
            options.tier,
            options.target == "tensorrt",
            on_miss=options.on_miss,
            search_minutes=options.search_minutes,
        ),
        calibration=CalibrationSources(
            text=options.calibration_text,
            column=options.calibration_column,
            paired=options.paired_column,
            images=options.calibration_images,
            texts=options.calibration_texts,
            texts_held_out=options.held_out_texts,
            images_count=options.calibration_image_count,
            images_held_out=options.held_out_image_count,
            seed=options.seed,
            zero_shot=ZeroShotSources(*labelled) if (labelled := asked_zero_shot(parser, options)) else None,
        ),
    )
    from export.summary import print_left_out, print_summary

    seconds = time.monotonic() - started
    if options.json:
        report: dict[str, Any] = {"bundle": str(options.out), "seconds": round(seconds, 1)}
        print_json(report | dataclasses.asdict(manifest))
    else:
        print_summary(manifest, options.out, seconds)
    if not manifest.left_out:
        return DONE
    print_left_out(manifest, options.precision)
    return LEFT_OUT


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m export",
        description="Export a checkpoint of CXR-BERT, BioViL, another BERT, or a folder of sentence-transformers, to a "
        "checked bundle of ONNX files.",
        epilog="Example: python -m export biovil --checkpoint microsoft/BiomedVLP-CXR-BERT-specialized "
        "--out bundles/biovil --precision fp32,int8. An existing bundle is "
        "measured by: python -m export verify BUNDLE. "
        "Its engines for TensorRT are built by: python -m export tensorrt BUNDLE. "
        "A model repository for Triton is written by: python -m export triton BUNDLE --out REPO. "
        "Exit status: 0 the bundle has all that was asked for; 1 failed, no bundle; 2 wrong usage; 3 the bundle is "
        "there, without the precisions that are listed at the end.",
    )
    parser.add_argument("family", nargs="?", type=_family, choices=list(FAMILIES), help="the system to export")
    parser.add_argument("--list", action="store_true", help="show the table of systems and exit")
    parser.add_argument(
        "--checkpoint", metavar="SOURCE", help="a folder in the hub's layout, a hub id, or 'random' (see --seed)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the bundle to write; must not exist")
    parser.add_argument(
        "--pooling",
        choices=["cls", "mean"],
        help="what an embedding is made of, where the system leaves it open: the first token or the mean of all (what "
        "a folder of sentence-transformers says, else mean)",
    )
    parser.add_argument(
        "--casing",
        choices=["cased", "uncased"],
        help="whether the model reads capital letters (what the tokenizer's files say; where they say nothing "
        "transformers lower-cases, and so does this)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of random weights and of the parity inputs (0)")
    parser.add_argument("--revision", help="hub revision instead of the pinned one")
    parser.add_argument(
        "--provider", default="auto", choices=["auto", *PROVIDERS], help="engine for the comparison with PyTorch (auto)"
    )
    parser.add_argument(
        "--precision",
        type=_precisions,
        default=("fp32",),
        metavar="LIST",
        help=f"of {', '.join(PRECISIONS)}, separated by commas (fp32); bf16 is fp32 weights computed in bfloat16",
    )
    parser.add_argument(
        "--tier",
        choices=["99", "99.9"],
        default="99",
        help="what int8 must hold on held-out data: a neighbour regret of 0.006, with which retrieval loses 1 %% at "
        "most, and a centred cosine of 0.95; or 0.002, with which it loses nothing that was measured, and 0.99 (99)",
    )
    parser.add_argument(
        "--on-miss",
        choices=["leave-out", "fail"],
        default="leave-out",
        help="what becomes of a precision below fp32 that misses its gate: leave it out of the bundle (exit status 3), "
        "or fail, with no bundle (leave-out)",
    )
    parser.add_argument(
        "--search-minutes",
        type=positive,
        default=10,
        metavar="M",
        help="when to end the search for an int8 recipe, for each part (10); one is tried in any case",
    )
    parser.add_argument(
        "--target", choices=["cpu", "tensorrt"], default="cpu", help="tensorrt adds the int8 spelling that it wants"
    )
    parser.add_argument(
        "--calibration-text", type=Path, metavar="FILE", help="your texts for int8: .txt, .csv, .jsonl or .parquet"
    )
    parser.add_argument("--calibration-column", default="text", metavar="NAME", help="column of the texts (text)")
    parser.add_argument(
        "--paired-column",
        metavar="NAME",
        help="column of what each held-out text is to find, such as impressions by findings: how much that retrieval "
        "loses is measured (the second half of each text)",
    )
    parser.add_argument(
        "--calibration-texts", type=count, default=300, metavar="N", help="texts to calibrate with (300)"
    )
    parser.add_argument(
        "--held-out-texts", type=count, default=300, metavar="N", help="texts to judge by, at least 16 (300)"
    )
    parser.add_argument("--calibration-images", type=Path, metavar="DIR", help="your images for int8")
    parser.add_argument(
        "--calibration-image-count", type=count, default=96, metavar="N", help="images to calibrate with (96)"
    )
    parser.add_argument(
        "--held-out-image-count", type=count, default=64, metavar="N", help="images to judge by, at least 8 (64)"
    )
    add_zero_shot_options(parser)
    add_force(parser)
    add_json(parser)
    return parser


def _chosen_family(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Family:
    """The row of the table, with what is left open there decided by the options."""
    family = FAMILIES[options.family]
    chosen = {"pooling": options.pooling, "lowercase": options.casing and options.casing == "uncased"}
    for option, name in (("--pooling", "pooling"), ("--casing", "lowercase")):
        if chosen[name] is not None and (family.text is None or not family.text.modules):
            parser.error(f"{option}: '{family.name}' says that itself")
    decided = {name: value for name, value in chosen.items() if value is not None}
    return (
        dataclasses.replace(family, text=dataclasses.replace(family.text, **decided))
        if family.text and decided
        else family
    )


def _check_lowering(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that would change nothing."""
    family = FAMILIES[options.family]
    if options.target == "tensorrt" and "int8" not in options.precision:
        parser.error("--target tensorrt is a spelling of int8: add int8 to --precision")
    if options.paired_column is not None and options.calibration_text is None:
        parser.error("--paired-column: name the file with --calibration-text")
    for name, part in (("text", family.text), ("images", family.image)):
        if getattr(options, f"calibration_{name}") is None:
            continue
        if part is None:
            parser.error(f"--calibration-{name}: '{options.family}' has no such part")
        if options.precision == ("fp32",):
            parser.error(f"--calibration-{name}: fp32 needs no calibration; name other precisions with --precision")
    if asked_zero_shot(parser, options):
        if family.joint is None:
            parser.error(f"--zero-shot-images: '{options.family}' does not embed both texts and images")
        if options.precision == ("fp32",):
            parser.error("--zero-shot-images: fp32 changes no AUROC; name other precisions with --precision")


def _run(command: str, *arguments: str) -> int:
    """Run another command and return its exit status."""
    name, doing = _COMMANDS[command]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(doing, error.name or str(error), "export") from error
    status: int = module.main(list(arguments))
    return status


def _family(text: str) -> str:
    if text in _COMMANDS:
        raise argparse.ArgumentTypeError(f"'{text}' stands before its options: python -m export {text} BUNDLE …")
    return text


def _precisions(text: str) -> tuple[str, ...]:
    named = tuple(dict.fromkeys(names(text)))
    unknown = [name for name in named if name not in PRECISIONS]
    if unknown or not named:
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(unknown) or 'nothing given'}; there are: {', '.join(PRECISIONS)}"
        )
    return named


def _print_families() -> None:
    rows = [("NAME", "PARTS", "SIZE", "LICENCE", "WHAT", "CHECKPOINT")]
    for family in FAMILIES.values():
        parts = " + ".join(name for name, part in (("text", family.text), ("image", family.image)) if part)
        checkpoint = f"{family.hub.repo}@{family.hub.revision}" if family.hub else family.given or "any"
        card = CARDS[family.name]
        size = f"{card.parameters} M" if card.parameters else ""
        rows.append((family.name, parts, size, card.licence, family.summary, checkpoint))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        print_result("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))
    print_result("\nWhat they are for, as their authors say:")
    width = max(map(len, FAMILIES))
    for name in FAMILIES:
        card = CARDS[name]
        notice = f". {card.notice[0].upper()}{card.notice[1:]}" if card.notice else ""
        print_result(f"{name.ljust(width)}  {card.purpose}{notice}.")


if __name__ == "__main__":
    sys.exit(main())
