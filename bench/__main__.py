"""The command line: `python -m bench texts | latency | fill-mask | images | files | cold-start | memory | quality`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import cold_start, memory, workloads
from bench.fill_mask import fill_mask
from bench.inputs import read_texts, sample
from bench.measure import PeerError
from bench.quality import QUALITY
from bench.report import print_times
from bench.turns import take_turns
from bench.workloads import Engine, Workload
from runtime.cores import default_threads
from runtime.errors import CxrEngineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 done, 1 failed, 2 wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if "quality" in options:
            options.quality(options)
        elif options.bundle and not options.checkpoint:
            parser.error("--bundle needs its --checkpoint: without the same weights nothing can be compared")
        else:
            _time(options)
    except (CxrEngineError, PeerError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _time(options: argparse.Namespace) -> None:
    work = Path(tempfile.mkdtemp(prefix="cxr-bench-"))
    try:
        options.run(options, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _engine(options: argparse.Namespace, work: Path) -> Engine:
    checkpoint, bundle = cold_start.prepare(options.checkpoint, options.bundle, options.family, options.precision, work)
    return Engine(bundle, checkpoint, options.provider, options.precision)


def _texts(options: argparse.Namespace, work: Path) -> None:
    read = read_texts(options.texts, options.column)  # first: an export takes minutes
    chosen = sample(read, options.limit, options.seed)
    engine = _engine(options, work)
    _measure(workloads.texts(engine, chosen, options.texts.name, options.only_ours), options)


def _latency(options: argparse.Namespace, work: Path) -> None:
    _measure(workloads.latency(_engine(options, work)), options)


def _fill_mask(options: argparse.Namespace, work: Path) -> None:
    _measure(fill_mask(_engine(options, work), options.batch), options)


def _images(options: argparse.Namespace, work: Path) -> None:
    _measure(workloads.image_tensors(_engine(options, work), options.batch), options)


def _files(options: argparse.Namespace, work: Path) -> None:
    _measure(workloads.image_files(_engine(options, work), work, options.limit, options.seed), options)


def _measure(workload: Workload, options: argparse.Namespace) -> None:
    times = take_turns(
        workload.contestants,
        options.rounds,
        options.threads,
        lambda message: print(f"  {message} …", file=sys.stderr, flush=True),
    )
    shares = workloads.percent_of_rate(workload, times)
    if options.json:
        report = {
            "workload": workload.title,
            "items": workload.items,
            "operations": workload.operations,
            "threads": options.threads,
            "seconds": {each.name: each.seconds for each in times},
            "share_of_int8_rate": shares,
        }
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print_times(workload, times, shares, options.threads)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}; at least 1 is expected")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure this engine beside its alternatives.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--bundle", type=Path, help="a bundle (default: exported from the checkpoint, then deleted)")
    shared.add_argument("--checkpoint", type=Path, help="its checkpoint folder (default: random weights, then deleted)")
    shared.add_argument("--threads", type=_count, default=default_threads(), help="threads of each (all cores)")
    shared.add_argument("--rounds", type=_count, default=5, help="counted runs of each, in turn (5)")
    shared.add_argument("--seed", type=int, default=0, help="of what is chosen or drawn at random (0)")
    shared.add_argument("--json", action="store_true", help="print JSON with all samples")

    def command(name: str, run: object, family: str, provider: str, precision: str, summary: str):
        added = commands.add_parser(name, help=summary, description=summary, parents=[shared])
        added.set_defaults(run=run, family=family)
        added.add_argument("--provider", default=provider, help=f"engine ({provider})")
        added.add_argument("--precision", default=precision, help=f"of this engine ({precision})")
        return added

    text, image = "cxr-bert-specialized", "biovil-image"
    texts = command(
        "texts",
        _texts,
        text,
        "openvino",
        "int8",
        "texts a second, beside PyTorch, OpenVINO, the int8 product",
    )
    texts.add_argument("--texts", type=Path, required=True, help=".jsonl or .txt (a text a line)")
    texts.add_argument("--column", default="text", help="of .jsonl (text)")
    texts.add_argument("--limit", type=_count, default=256, help="texts, chosen at random (256)")
    texts.add_argument("--only-ours", action="store_true", help="this engine and the int8 product only")
    command("latency", _latency, text, "openvino", "int8", "one sentence of 16 tokens, beside PyTorch")
    masks = command(
        "fill-mask", _fill_mask, text, "openvino", "int8", "one mask in 64 tokens, decoder there or everywhere"
    )
    masks.add_argument("--batch", type=_count, default=8, help="texts (8)")
    images = command("images", _images, image, "openvino", "int8", "image model alone, beside the int8 product's rate")
    images.add_argument("--batch", type=_count, default=4, help="images per batch (4)")
    files = command("files", _files, image, "openvino", "int8", "JPEG files a second, beside the reference package")
    files.add_argument("--limit", type=_count, default=24, help="files (24)")
    command(
        "cold-start",
        cold_start.run,
        text,
        "cpu",
        "fp32",
        "seconds from process start to the first text embedding, and peak memory, beside transformers and torch",
    )
    kept = command("memory", memory.run, "biovil", "openvino", "int8", "resident memory while much is embedded")
    kept.add_argument("--texts-count", type=_count, default=10_000, help="requests of mixed lengths (10,000)")
    kept.add_argument("--images-count", type=_count, default=2_000, help="images (2,000)")
    about = "the papers' tasks with the papers' metrics"
    tasks = commands.add_parser("quality", help=about, description=about).add_subparsers(required=True, metavar="WHAT")
    for task in QUALITY:
        named = tasks.add_parser(task.NAME, help=task.SUMMARY, description=task.SUMMARY)
        named.set_defaults(quality=task.run)
        task.add_options(named)
    return parser


if __name__ == "__main__":
    sys.exit(main())
