"""The command line: `python -m runtime embed | similarity | ground | info | doctor | tune`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import numpy as np

from runtime.archive import REJECTS, check_folder
from runtime.arguments import RESEARCH_ONLY, parse
from runtime.bundle import open_bundle
from runtime.embed import embed_to_file, embed_to_folder
from runtime.engine import Engine, load
from runtime.errors import CxrEngineError, InputError, ProviderError
from runtime.images import read_grey
from runtime.info import describe_bundle, print_description
from runtime.items import find_items
from runtime.output import check_output, is_folder_output, write_array
from runtime.tables import Columns
from runtime.termination import Terminated, terminable
from runtime.tuned import write_tuning

_INTERRUPTED = 130
_TERMINATED = 143
_OPTION_OF = {"text": "column", "image": "image_column", "id": "id_column"}
_RANDOM_WEIGHTS = "Random weights: this result means nothing."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0 done (also where bad items were left out as asked), 1 failed, 2 wrong usage, 130 interrupted,
        143 ended by SIGTERM.
    """
    options = parse(_COMMANDS, arguments)
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
    note = f"{_RANDOM_WEIGHTS} {RESEARCH_ONLY}" if is_random else RESEARCH_ONLY
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


def _tune(options: argparse.Namespace) -> None:
    from runtime.tune import tune
    from runtime.tune_table import describe_report, print_report

    report = tune(
        options.bundle,
        options.budget,
        providers=options.provider,
        parts=options.part,
        threads=options.threads,
        min_fidelity=options.min_fidelity,
        goal=options.goal,
    )
    if options.json:
        print(json.dumps(describe_report(report), indent=2, ensure_ascii=False))
    else:
        print_report(report)
    sys.stdout.flush()
    file = write_tuning(open_bundle(options.bundle), report.tuning)
    print(f"stored for load() and the commands here: {file}", file=sys.stderr)


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
        share=options.share,
    )
    if engine.manifest.source.kind == "random":
        print(_RANDOM_WEIGHTS, file=sys.stderr)
    return engine


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = MappingProxyType(
    {
        "embed": _embed,
        "similarity": _similarity,
        "ground": _ground,
        "info": _info,
        "doctor": _doctor,
        "tune": _tune,
    }
)


if __name__ == "__main__":
    sys.exit(main())
