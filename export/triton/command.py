"""`python -m export triton BUNDLE --out REPO`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path, PurePosixPath

from export.triton.config import Queue
from export.triton.models import MODELS
from export.triton.options import BACKENDS, Asked
from export.triton.repository import MODELS_FOLDER, write_repository
from runtime.commands.argument_types import count, names, positive
from runtime.commands.arguments import add_bundle, add_choice_options, add_force, add_json
from runtime.commands.parsing import CommandParser
from runtime.engines import PROVIDERS
from runtime.process import print_json, print_note, report_written

__all__ = ["main"]

# A model's name is a folder's and part of a URL.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def main(arguments: list[str]) -> int:
    """Run `python -m export triton` and return the exit status 0; errors are raised."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = [name for name in options.models or () if name not in MODELS]
    if unknown or options.models == ():
        parser.error(f"--models: {', '.join(unknown) or 'no model'}; there are: {', '.join(MODELS)}")
    if options.bundle_at is not None and not PurePosixPath(options.bundle_at).is_absolute():
        parser.error(f"--bundle-at: '{options.bundle_at}'; an absolute path is expected")
    if options.device not in BACKENDS[options.backend]:
        parser.error(f"--device {options.device}: Triton's {options.backend} backend runs on processors")
    if options.instances > 1 and options.threads is None:
        parser.error("--instances: name the threads of each with --threads, or each takes all processors")
    if options.provider != "auto" and options.device == "gpu":
        parser.error("--provider and --device gpu exclude each other: on a GPU it is cuda")
    asked = Asked(
        backend=options.backend,
        name=options.name,
        models=options.models,
        provider=options.provider,
        precision=options.precision,
        min_fidelity=options.min_fidelity,
        device=options.device,
        instances=options.instances,
        threads=options.threads,
        max_texts=options.max_texts,
        max_images=options.max_images,
        queue=Queue(options.max_queue, options.max_wait),
        bundle_at=options.bundle_at,
    )
    written = write_repository(options.bundle, options.out, asked, force=options.force, note=print_note)
    if options.json:
        print_json(written.record())
        return 0
    for each in written.models:
        precision = f", {each.graph.precision}" if each.graph else ""
        report_written(f"{each.config.name} ({each.config.backend}{precision}): {each.config.summary}")
    report_written(f"Serve it with: tritonserver --model-repository={written.out / MODELS_FOLDER} …")
    report_written(f"  {written.out / 'README.md'} has the whole command, and what is needed and not")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m export triton",
        description="Write a bundle as a model repository of Triton Inference Server: models of its Python backend "
        "that call the runtime, or the graphs for its ONNX Runtime or OpenVINO backend with Python models before them "
        "that tokenize and decode. The names and tensors of the models for texts and images are the same either way.",
        epilog="Example: python -m export triton bundles/biovil --out triton. The folder's README.md says how to serve "
        "it. The graphs' backends were not run by those who wrote this: they were not at hand.",
    )
    add_bundle(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="REPO", help="folder to write")
    parser.add_argument(
        "--backend",
        default="python",
        choices=list(BACKENDS),
        help="what embeds: the runtime in the Python backend, which packs texts of any length, or the graphs (python)",
    )
    parser.add_argument(
        "--models",
        type=names,
        metavar="LIST",
        help=f"which, of: {', '.join(MODELS)} (all that the bundle has, of graphs text and image)",
    )
    parser.add_argument("--name", type=_name, default="cxr", metavar="NAME", help="what models' names begin with (cxr)")
    parser.add_argument(
        "--provider", default="auto", choices=["auto", *PROVIDERS], help="engine of models that call the runtime (auto)"
    )
    add_choice_options(parser)
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"], help="what embeds runs there (cpu)")
    parser.add_argument(
        "--instances", type=count, default=1, metavar="N", help="of each model, each with weights of its own (1)"
    )
    parser.add_argument("--threads", type=count, metavar="N", help="of each instance (all processors)")
    parser.add_argument("--max-texts", type=count, default=256, metavar="N", help="texts of a batch or request (256)")
    parser.add_argument("--max-images", type=count, default=16, metavar="N", help="images of a batch or request (16)")
    parser.add_argument(
        "--max-queue",
        type=count,
        default=256,
        metavar="N",
        help="requests that wait for a model, others are refused (256)",
    )
    parser.add_argument(
        "--max-wait", type=positive, default=10.0, metavar="SECONDS", help="that a request waits at most (10)"
    )
    parser.add_argument(
        "--bundle-at",
        metavar="PATH",
        help="where the bundle lies on the machine that serves, instead of a copy in the repository",
    )
    add_force(parser)
    add_json(parser)
    return parser


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"'{text}'; letters, digits, '.', '_' and '-' are expected, at most 64")
    return text
