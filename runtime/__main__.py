"""The command line: `python -m runtime embed | similarity | ground | info`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engine import Engine, load
from runtime.errors import CxrEngineError, Fault, InputError, MissingExtraError
from runtime.images import Pixels, read_grey
from runtime.info import describe_bundle, print_description
from runtime.items import Items, collect_items
from runtime.output import check_output, write_array, write_embeddings
from runtime.precision import MIN_FIDELITY
from runtime.providers import PROVIDERS

_INTERRUPTED = 130
_CHUNK = {"image": 4, "text": 256}
_RANDOM_WEIGHTS = "Random weights: this result means nothing."
_RESEARCH_ONLY = "For research only, not for clinical use."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 done, 1 failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
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
    return 0


def _embed(options: argparse.Namespace) -> None:
    check_output(options.out)
    items = collect_items(options.inputs, options.text, options.column, options.id_column)
    engine = _load(options, [items.part])
    print(f"{engine.provider}, {engine.choices[items.part]}", file=sys.stderr)
    rows, faults = [], []
    kept: list[str] = []
    for start, embeddings, bad in _embed_chunks(engine, items, options.skip_bad):
        faults += [Fault(start + fault.index, fault.name, fault.reason) for fault in bad]
        wrong = {fault.index for fault in bad}
        chunk_ids = items.ids[start : start + _CHUNK[items.part]]
        kept += [identity for index, identity in enumerate(chunk_ids) if index not in wrong]
        rows.append(embeddings)
    if faults:
        named = [Fault(fault.index, items.ids[fault.index], fault.reason) for fault in faults]
        error = InputError.from_faults(f"{items.part}s", named, len(items.values), shown=None)
        if not options.skip_bad:
            raise InputError(f"{error}\nNothing was written. Leave these out with --skip-bad.", named)
        print(f"Skipped: {error}", file=sys.stderr)
        if not kept:
            raise InputError("Nothing is left to write.", named)
    metadata = {
        "family": engine.manifest.family,
        "provider": engine.provider,
        "precision": engine.precision[items.part],
        "weights": json.dumps(engine.manifest.source.weights),
    }
    files = write_embeddings(options.out, kept, np.concatenate(rows), metadata)
    print(f"{len(kept)} {items.part} embeddings → {' and '.join(map(str, files))}  [{_how(engine, items.part)}]")


def _embed_chunks(
    engine: Engine, items: Items, skip_bad: bool
) -> Iterator[tuple[int, NDArray[np.float32], Sequence[Fault]]]:
    """Embed chunk by chunk; yields the chunk's start, the embeddings of its good items, and its bad ones.

    Once a bad item has decided that nothing will be written, the rest is only checked, so that all can be named.
    """
    from tqdm import tqdm

    size = _CHUNK[items.part]
    compute = True
    with tqdm(total=len(items.values), unit=items.part, disable=not sys.stderr.isatty()) as bar:
        for start in range(0, len(items.values), size):
            chunk = items.values[start : start + size]
            if items.part == "image":
                embeddings, bad = _embed_images(engine, chunk, skip_bad, compute)
            else:
                embeddings, bad = _embed_texts(engine, chunk, compute)
            compute = compute and (skip_bad or not bad)
            yield start, embeddings, bad
            bar.update(len(chunk))


def _embed_images(
    engine: Engine, paths: list[str], skip_bad: bool, compute: bool
) -> tuple[NDArray[np.float32], Sequence[Fault]]:
    loaded: list[Pixels] = []
    faults: list[Fault] = []
    for index, path in enumerate(paths):
        try:
            good, bad = engine.image.load([path])
        except MissingExtraError as error:
            if not skip_bad:
                raise
            good, bad = [], [Fault(0, path, str(error))]
        loaded += good
        faults += [Fault(index, fault.name, fault.reason) for fault in bad]
    if not (loaded and compute):
        return np.empty((0, engine.image.embedding_size), dtype=np.float32), faults
    return engine.image.encode_pixels(np.stack([item.pixels for item in loaded])), faults


def _embed_texts(engine: Engine, texts: list[str], compute: bool) -> tuple[NDArray[np.float32], Sequence[Fault]]:
    faults: Sequence[Fault] = ()
    try:
        engine.text.tokenizer.encode(texts)
    except InputError as error:
        faults = error.faults
        wrong = {fault.index for fault in faults}
        texts = [text for index, text in enumerate(texts) if index not in wrong]
    if not (texts and compute):
        return np.empty((0, engine.text.embedding_size), dtype=np.float32), faults
    return engine.text.encode(texts), faults


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


def _load(options: argparse.Namespace, parts: list[str] | None) -> Engine:
    engine = load(
        options.bundle,
        provider=options.provider,
        precision=options.precision,
        threads=options.threads,
        min_fidelity=options.min_fidelity,
        parts=parts,
        invert_monochrome1=not options.keep_monochrome1,
    )
    if engine.manifest.source.kind == "random":
        print(_RANDOM_WEIGHTS, file=sys.stderr)
    return engine


def _how(engine: Engine, part: str) -> str:
    return f"{engine.provider}, {engine.precision[part]}"


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

    def command(name: str, run: Any, summary: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary, parents=list(parents))
        added.set_defaults(run=run)
        added.add_argument("bundle", help="folder written by python -m export")
        return added

    embed = command("embed", _embed, "Embed images or texts into a .npy or .parquet file.", shared)
    embed.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="image files, folders of images, .txt (a text a line), .csv, .jsonl or .parquet files, or - for stdin",
    )
    embed.add_argument("--text", action="append", default=[], help="a text to embed; may be repeated")
    embed.add_argument("--out", type=Path, required=True, help="NAME.npy (ids in NAME.ids.txt) or NAME.parquet")
    embed.add_argument("--column", default="text", help="text column of .csv, .jsonl and .parquet files (text)")
    embed.add_argument("--id-column", help="id column of .csv, .jsonl and .parquet files (file:row)")
    embed.add_argument("--skip-bad", action="store_true", help="leave out what cannot be used, and list it")

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
    return parser


if __name__ == "__main__":
    sys.exit(main())
