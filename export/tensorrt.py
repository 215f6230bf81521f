"""`python -m export tensorrt BUNDLE`: build TensorRT's engines ahead of time. Not run on a GPU: there was none.

The engines are kept in the user's cache folder, where sessions look for them, and not in the bundle as ONNX Runtime's
EPContext models (`trt_dump_ep_context_model`), because

* an engine fits one model of GPU and one version of TensorRT and ONNX Runtime. A bundle is copied between machines and
  never changes: the manifest lists the digest of every file. An EPContext model that does not fit fails, or runs slowly
  with a warning; a cached engine that does not fit has another key and is built anew;
* an engine is machine code. What lies in the user's own folder (mode 0700) was built by the user, what comes with a
  bundle was not;
* an EPContext model refuses shapes beyond its profile; engines for other lengths are added to the cache at any time.

The price is that ONNX Runtime still reads the ONNX graph when a session opens.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.bundle import Bundle, open_bundle
from runtime.choice import choose_precision
from runtime.commands.argument_types import count, counts
from runtime.commands.arguments import add_bundle, add_json
from runtime.commands.parsing import CommandParser
from runtime.engines import PROVIDERS, SessionOptions, default_threads, unavailable_reason
from runtime.engines.gpu import Shapes
from runtime.engines.tensorrt_session import model_folder, save_shapes
from runtime.errors import InputError, ProviderError
from runtime.process import print_json, print_note, report_written
from runtime.process.cache import CACHE_VARIABLE, cache_folder

__all__ = ["Built", "build_engines", "main", "plan_shapes"]

_TENSORRT = PROVIDERS["tensorrt"]


@dataclass(frozen=True)
class Built:
    """The engines of one part: where they are, the shapes they take and how long building took."""

    part: str
    precision: str
    folder: str
    max_batch: int
    lengths: tuple[int, ...]
    seconds: float


def build_engines(bundle: Path, precision: str, max_batch: int | None, lengths: tuple[int, ...]) -> Iterator[Built]:
    """Build the engines of every part of a bundle and keep them in the user's cache folder.

    Args:
        bundle: the bundle's folder.
        precision: as for `runtime.load`.
        max_batch: most rows of a batch, which larger ones are cut into; None takes 32 texts and 8 images.
        lengths: an engine for the texts up to each of these numbers of tokens; the longest that the model takes is
            always added.

    Yields:
        What was built, part by part.

    Raises:
        BundleError: no bundle, or nothing in it that TensorRT can run.
        InputError: a length that the model does not take.
        ProviderError: there is no GPU, no TensorRT or no folder to keep engines in, or building fails.
    """
    opened = open_bundle(bundle)
    shapes = plan_shapes(opened, max_batch, lengths)
    reason = unavailable_reason(_TENSORRT)
    if reason is not None:
        raise ProviderError(f"TensorRT engines cannot be built here: {reason}")
    top = cache_folder("tensorrt")
    if top is None:
        raise ProviderError(f"There is no folder to keep engines in. Name one with {CACHE_VARIABLE}=FOLDER.")
    choices = [choose_precision(opened, part, _TENSORRT, precision) for part in opened.parts()]
    for choice in choices:
        opened.verify(choice.artifact.files)
        model = opened.path(choice.artifact.file)
        folder = model_folder(top, model)
        save_shapes(folder, shapes)
        is_text = choice.part == "text"
        print_note(f"Building the engines of {choice}; this takes minutes …")
        started = time.monotonic()
        _TENSORRT.open(model, SessionOptions(default_threads(), choice.precision))
        yield Built(
            part=choice.part,
            precision=choice.precision,
            folder=str(folder),
            max_batch=shapes.text_batch if is_text else shapes.image_batch,
            lengths=shapes.lengths if is_text else (),
            seconds=time.monotonic() - started,
        )


def plan_shapes(bundle: Bundle, max_batch: int | None, lengths: tuple[int, ...]) -> Shapes:
    """What to build for: see `build_engines`.

    Raises:
        InputError: a length that the model does not take.
    """
    default = Shapes()
    part = bundle.manifest.text
    if part is not None:
        too_long = [length for length in lengths if length > part.tokenization.max_length]
        if too_long:
            raise InputError(f"lengths {too_long}: {bundle.root} takes up to {part.tokenization.max_length} tokens.")
        kept = lengths or tuple(length for length in default.lengths if length < part.tokenization.max_length)
        lengths = tuple(sorted({*kept, part.tokenization.max_length}))
    return Shapes(max_batch or default.text_batch, max_batch or default.image_batch, lengths or default.lengths)


def main(arguments: list[str]) -> int:
    """Run `python -m export tensorrt` and return the exit status 0; errors are raised."""
    options = _parser().parse_args(arguments)
    built = []
    for each in build_engines(Path(options.bundle), options.precision, options.max_batch, options.lengths):
        built.append(each)
        if not options.json:
            tokens = f", up to {' and '.join(map(str, each.lengths))} tokens" if each.lengths else ""
            report_written(f"{each.part} {each.precision}: batches of {each.max_batch}{tokens}; {each.seconds:.0f} s")
            report_written(f"  → {each.folder}")
    if options.json:
        print_json([asdict(each) for each in built])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m export tensorrt",
        description="Build TensorRT's engines of a bundle ahead of time, for the GPU of this machine, and keep them in "
        f"the user's cache folder ({CACHE_VARIABLE} names another). Sessions build what they do not find there. "
        "Not run on a GPU by those who wrote it: there was none.",
    )
    add_bundle(parser)
    parser.add_argument("--precision", default="auto", help="what to compute in, as for loading (auto)")
    parser.add_argument(
        "--max-batch", type=count, metavar="N", help="most rows of a batch; larger are cut (32 texts, 8 images)"
    )
    parser.add_argument(
        "--lengths",
        type=_lengths,
        default=(),
        metavar="LIST",
        help="an engine for texts up to each of these numbers of tokens, separated by commas (128,512)",
    )
    add_json(parser)
    return parser


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(sorted(set(counts(text))))
