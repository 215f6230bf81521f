"""What most commands share: the options that choose an engine, the engine they ask for, --force and --json."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from runtime.choice import MIN_FIDELITY
from runtime.commands.argument_types import count, whole_number
from runtime.engine import Engine
from runtime.engines import PROVIDERS
from runtime.image.dicom_options import PADDING, DicomOptions
from runtime.loading import load
from runtime.process import print_note
from runtime.process.wording import RANDOM_WEIGHTS, RESEARCH_ONLY
from runtime.text.embedding_cache import TEXT_CACHE

__all__ = [
    "RANDOM_WEIGHTS",
    "RESEARCH_ONLY",
    "add_bundle",
    "add_choice_options",
    "add_engine_options",
    "add_force",
    "add_json",
    "add_min_fidelity",
    "dicom_options",
    "load_engine",
    "note_choices",
]


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the argument `bundle`."""
    parser.add_argument("bundle", help="folder written by python -m export")


def add_choice_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a precision: --precision and --min-fidelity."""
    parser.add_argument(
        "--precision",
        default="auto",
        metavar="{auto,fp32,bf16,int8,…}",
        help="what to compute in; auto takes the fastest that was measured to be faithful enough, else fp32 (auto)",
    )
    add_min_fidelity(parser, "smallest mean cosine to PyTorch fp32, on held-out data, that auto accepts")


def add_min_fidelity(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --min-fidelity; `what` is its help, to which the default is added."""
    parser.add_argument(
        "--min-fidelity", type=float, default=MIN_FIDELITY, metavar="COSINE", help=f"{what} ({MIN_FIDELITY:g})"
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add all options that `load_engine` reads but the bundle."""
    add_choice_options(parser)
    parser.add_argument("--provider", default="auto", choices=["auto", *PROVIDERS], help="inference engine (auto)")
    parser.add_argument("--threads", type=count, help="threads of the engine (all processors)")
    parser.add_argument(
        "--keep-monochrome1",
        action="store_true",
        help="leave MONOCHROME1 DICOM inverted, as the reference implementation does",
    )
    parser.add_argument(
        "--frame",
        type=count,
        metavar="N",
        help="take this frame, from 1, of DICOM files that hold several, which are refused otherwise",
    )
    parser.add_argument(
        "--voi-lut",
        action="store_true",
        help="apply the window or VOI LUT of DICOM files, as viewers do but the reference implementation does not",
    )
    parser.add_argument(
        "--pixel-padding",
        default=PADDING[0],
        choices=PADDING,
        help="pixel padding of DICOM files: leave it out where it would take most of the contrast (auto), always, or "
        "never, as the reference implementation",
    )
    parser.add_argument(
        "--fast-decode",
        action="store_true",
        help="decode large JPEG files at a fraction of their size: 2 to 5 times as fast, not the reference's pixels",
    )
    parser.add_argument(
        "--refuse-long",
        action="store_true",
        help="refuse texts of more tokens than the model reads, where the system cuts them (CLIP at 77)",
    )
    parser.add_argument(
        "--text-cache",
        type=whole_number,
        default=TEXT_CACHE,
        metavar="N",
        help=f"texts whose embeddings are kept for when they come again; 0 for none ({TEXT_CACHE:,})",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="other processes use the same processors: threads that wait do not spin",
    )
    parser.add_argument(
        "--no-trial",
        action="store_true",
        help="do not try engines side by side for --provider auto, which takes 2 seconds, once, where neither tune nor "
        "the bundle tells which is faster here",
    )


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add --force, which every command that writes has."""
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace what is there, whoever wrote it: files; a bundle, an index or a run of embed as a whole. Inputs "
        "are never replaced",
    )


def add_json(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add --json; `more` goes into the help."""
    parser.add_argument("--json", action="store_true", help=f"print JSON{more}")


def dicom_options(options: argparse.Namespace) -> DicomOptions:
    """How DICOM files are read, by the options of `add_engine_options`; raises InputError."""
    return DicomOptions(not options.keep_monochrome1, options.frame, options.voi_lut, options.pixel_padding)


def load_engine(options: argparse.Namespace, parts: Iterable[str] | None) -> Engine:
    """Load the bundle with the options of `add_bundle` and `add_engine_options`; random weights are said on stderr.

    Args:
        options: as parsed.
        parts: "text" and "image", or None for all that the bundle has.
    """
    dicom = dicom_options(options)
    engine = load(
        options.bundle,
        provider=options.provider,
        precision=options.precision,
        threads=options.threads,
        min_fidelity=options.min_fidelity,
        parts=parts,
        invert_monochrome1=dicom.invert_monochrome1,
        dicom_frame=dicom.frame,
        voi_lut=dicom.voi_lut,
        pixel_padding=dicom.padding,
        fast_decode=options.fast_decode,
        refuse_long=options.refuse_long,
        text_cache=options.text_cache,
        share=options.share,
        trial=not options.no_trial,
    )
    if engine.manifest.source.kind == "random":
        print_note(RANDOM_WEIGHTS)
    return engine


def note_choices(engine: Engine) -> None:
    """Say on stderr what was chosen to run the parts that are loaded."""
    print_note(f"{engine.provider}, {', '.join(map(str, engine.choices.values()))}")
