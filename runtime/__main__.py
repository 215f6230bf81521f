"""The command line: `python -m runtime embed | similarity | ground | info | doctor`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from runtime.archive import REJECTS, check_folder
from runtime.embed import PART_ROWS, embed_to_file, embed_to_folder
from runtime.engine import Engine, load
from runtime.errors import CxrEngineError, InputError, ProviderError
from runtime.images import read_grey
from runtime.info import describe_bundle, print_description
from runtime.items import find_items
from runtime.output import check_output, is_folder_output, write_array
from runtime.precision import MIN_FIDELITY
from runtime.providers import PROVIDERS
from runtime.tables import Columns
from runtime.termination import Terminated, terminable

_INTERRUPTED = 130
_TERMINATED = 143
_OPTION_OF = {"text": "column", "image": "image_column", "id": "id_column"}
_RANDOM_WEIGHTS = "Random weights: this result means nothing."
_RESEARCH_ONLY = "For research only, not for clinical use."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0 done (also where bad items were left out as asked), 1 failed, 2 wrong usage, 130 interrupted,
        143 ended by SIGTERM.
    """
    options = _parse(arguments)
    try:
        options.run(options)
    except CxrEngineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left, as `head` does
        return 1
    except OSError as error:  # a full disk, say
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED
    except Terminated:
        print("Terminated.", file=sys.stderr)
        return _TERMINATED
    return 0


def _embed(options: argparse.Namespace) -> None:
    to_folder = is_folder_output(options.out)
    out = Path(options.out)
    if to_folder:
        if options.rejects:
            raise InputError(f"--rejects is for single files; a folder gets its own {REJECTS}.")
        check_folder(out, options.resume)
    else:
        if options.resume:
            raise InputError(f"{out} cannot be resumed: it is one file. Write to a folder, --out {out.stem}/")
        check_output(out)
        if options.rejects:
            check_output(options.rejects, (".jsonl",))
    with terminable():
        columns = Columns(options.column, options.image_column, options.id_column)
        stream = find_items(options.inputs, options.text, columns)
        engine = _load(options, [stream.part])
        print(f"{engine.provider}, {engine.choices[stream.part]}", file=sys.stderr)
        if to_folder:
            settings = {
                **asdict(columns),
                "keep_monochrome1": options.keep_monochrome1,
                "fast_decode": options.fast_decode,
            }
            named = {_OPTION_OF.get(name, name): value for name, value in settings.items()}
            embed_to_folder(
                engine, stream, out, options.part_rows, named, resume=options.resume, skip_bad=options.skip_bad
            )
        else:
            embed_to_file(engine, stream, out, options.skip_bad or options.rejects is not None, options.rejects)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _similarity(options: argparse.Namespace) -> None:
    engine = _load(options, None)
    score = engine.similarity(options.image, options.phrases)
    if options.json:
        print(json.dumps({"image": options.image, "phrases": options.phrases, "similarity": score}))
    else:
        print(f"{score:+.4f}  {options.image}  {' | '.join(options.phrases)}")


def _ground(options: argparse.Namespace) -> None:
    from runtime.overlay import draw_overlay

    out = options.out or Path(f"{Path(options.image).stem}-grounding.png")
    check_output(out, (".png",))
    if options.save_map:
        check_output(options.save_map, (".npy",))
    engine = _load(options, None)
    similarity_map = engine.similarity_map(options.image, options.phrase)
    score = engine.similarity(options.image, options.phrase)
    is_random = engine.manifest.source.kind == "random"
    note = f"{_RANDOM_WEIGHTS} {_RESEARCH_ONLY}" if is_random else _RESEARCH_ONLY
    draw_overlay(
        read_grey(options.image, not options.keep_monochrome1), similarity_map, options.phrase, score, out, note
    )
    row, column = np.unravel_index(np.nanargmax(similarity_map), similarity_map.shape)
    print(f"image–text similarity {score:+.4f}, strongest patch {similarity_map[row, column]:+.4f}")
    print(f"overlay → {out}")
    if options.save_map:
        write_array(options.save_map, similarity_map)
        print(f"map float32 {similarity_map.shape} → {options.save_map}")


def _info(options: argparse.Namespace) -> None:
    description = describe_bundle(options.bundle, options.precision, options.min_fidelity)
    if options.json:
        print(json.dumps(description, indent=2, ensure_ascii=False))
    else:
        print_description(description)


def _doctor(options: argparse.Namespace) -> None:
    from runtime.doctor import examine, print_report, works

    report = examine(options.bundle)
    if options.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print_report(report)
    if not works(report):
        raise ProviderError("Nothing can be computed here; the report says why.")


def _load(options: argparse.Namespace, parts: list[str] | None) -> Engine:
    engine = load(
        options.bundle,
        provider=options.provider,
        precision=options.precision,
        threads=options.threads,
        min_fidelity=options.min_fidelity,
        parts=parts,
        invert_monochrome1=not options.keep_monochrome1,
        fast_decode=options.fast_decode,
    )
    if engine.manifest.source.kind == "random":
        print(_RANDOM_WEIGHTS, file=sys.stderr)
    return engine


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse; inputs may stand among the options, which argparse (before 3.12) takes for too many arguments."""
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    unknown = [name for name in others if name.startswith("-") and name != "-"]
    if unknown or (others and "inputs" not in options):
        parser.error(f"unrecognized arguments: {' '.join(unknown or others)}")
    if others:
        options.inputs += others
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtime", description=f"Run CXR-BERT and BioViL from a bundle. {_RESEARCH_ONLY}"
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

    def command(name: str, run: Any, summary: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary, parents=list(parents))
        added.set_defaults(run=run)
        added.add_argument("bundle", help="folder written by python -m export")
        return added

    embed = command("embed", _embed, "Embed images or texts into one file or a folder of Parquet parts.", shared)
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

    similarity = command("similarity", _similarity, "Print how similar an image and a phrase are.", shared)
    similarity.add_argument("image", help="image file")
    similarity.add_argument("phrases", nargs="+", metavar="PHRASE", help="a phrase, or several that mean the same")
    similarity.add_argument("--json", action="store_true", help="print JSON")

    ground = command("ground", _ground, "Draw where an image resembles a phrase.", shared)
    ground.add_argument("image", help="image file")
    ground.add_argument("phrase", metavar="PHRASE", help="one phrase")
    ground.add_argument("--out", type=Path, help="the .png file to write (IMAGE-grounding.png)")
    ground.add_argument("--save-map", type=Path, metavar="NPY", help="write the map as well, float32 (H, W)")

    info = command(
        "info", _info, "Show what a bundle holds, verify its digests, and list this machine's engines.", chosen
    )
    info.add_argument("--json", action="store_true", help="print JSON")

    about = (
        "Look at this machine, run a tiny graph on every engine, and say what is in the way of those that do not run."
    )
    doctor = commands.add_parser(
        "doctor",
        help=about,
        description=f"{about} Exit status 1 if no engine runs, or BUNDLE cannot be loaded; else 0.",
    )
    doctor.set_defaults(run=_doctor)
    doctor.add_argument("bundle", nargs="?", help="also say what loading this bundle would choose")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
