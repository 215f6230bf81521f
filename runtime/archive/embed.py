"""A stream of items → one file of embeddings, or a folder of parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.archive.chunks import embed_items, embed_stream, settle_rejects
from runtime.archive.digests import image_stamps, items_digest, model_digest
from runtime.archive.folder import REJECTS, Archive
from runtime.archive.items import Stream
from runtime.archive.output import write_embeddings
from runtime.archive.records import Reject
from runtime.engine import Engine
from runtime.errors import InputError
from runtime.files import Item
from runtime.process import print_note, report_written
from runtime.process.progress import Progress

__all__ = ["PART_ROWS", "embed_to_file", "embed_to_folder"]

# Items of a part: little enough that a killed run loses minutes, enough that a million items are some hundred files.
PART_ROWS = 4096


def embed_to_file(
    engine: Engine, stream: Stream, out: Path, skip_bad: bool, rejects_file: Path | None, replace: bool = True
) -> None:
    """Embed everything into one file; all embeddings are held until the end.

    Args:
        engine: with the stream's part loaded.
        stream: what to embed.
        out: see `write_embeddings`.
        skip_bad: leave bad items out; otherwise they stop the run once all of them are known, and nothing is written.
        rejects_file: list bad items there rather than on stderr; goes with `skip_bad`.
        replace: see `whole_files`.

    Raises:
        InputError: bad items, or no good ones.
        MissingExtraError: a file's format needs an optional package, unless `skip_bad`.
    """
    kept: list[str] = []
    rows: list[NDArray[np.float32]] = []
    rejects: list[Reject] = []
    for chunk in embed_stream(engine, stream, skip_bad):
        kept += chunk.ids
        rows.append(chunk.rows)
        rejects += chunk.rejects
    settle_rejects(stream.part, rejects, len(kept) + len(rejects), skip_bad, rejects_file, replace)
    if not kept:
        raise InputError("Nothing is left to write." if rejects else _nothing(stream))
    files = write_embeddings(out, kept, np.concatenate(rows), _metadata(engine, stream.part), replace)
    names = " and ".join(map(str, files))
    report_written(f"{len(kept)} {stream.part} embeddings → {names}  [{_how(engine, stream.part)}]")


def embed_to_folder(
    engine: Engine,
    stream: Stream,
    out: Path,
    part_rows: int,
    options: Mapping[str, Any],
    *,
    resume: bool,
    skip_bad: bool,
    force: bool = False,
) -> None:
    """Embed everything into a folder of parts, see `archive.py`; one part is held at a time.

    Args:
        engine: with the stream's part loaded.
        stream: what to embed.
        out: the folder.
        part_rows: items of a part.
        options: what else the embeddings depend on; a resumed run must have the same.
        resume: go on where a former run stopped.
        skip_bad: reject files whose format needs an optional package that is missing. Otherwise they stop the run: once
            the package is there it can be resumed.
        force: begin anew where there is a former run: its parts are removed.

    Raises:
        InputError: see `Archive`; inputs that changed since, or break in the middle; no good item at all.
        MissingExtraError: a file's format needs an optional package, unless `skip_bad`.
        OSError: the disk is full, say.
    """
    settings = {
        "part": stream.part,
        "family": engine.manifest.family,
        "model_digest": model_digest(engine, stream.part),
        "provider": engine.provider,
        "precision": engine.precision[stream.part],
        "part_rows": part_rows,
        **options,
        "inputs": [source.stamp for source in stream.sources],
    }
    with Archive(out, settings, _metadata(engine, stream.part), resume, force) as archive:
        if archive.finished:
            print_note("All of it was done before.")
        else:
            try:
                _fill(engine, stream, archive, part_rows, skip_bad)
            except InputError:
                raise  # resuming would not help
            except BaseException:
                print_note(
                    f"Stopped with {len(archive.parts)} parts ({archive.items:,} items) in {out}. The same command "
                    "with --resume goes on from there."
                )
                raise
        rejected = archive.items - archive.embedded
        if rejected:
            print_note(f"{rejected} of {archive.items} {stream.part}s cannot be used → {out / REJECTS}")
        if not archive.embedded:
            raise InputError("Nothing could be embedded." if rejected else _nothing(stream))
        parts = f"{len(archive.parts)} part{'s' if len(archive.parts) > 1 else ''} in {out}"
        report_written(f"{archive.embedded} {stream.part} embeddings → {parts}  [{_how(engine, stream.part)}]")


def _fill(engine: Engine, stream: Stream, archive: Archive, part_rows: int, skip_bad: bool) -> None:
    items = iter(stream)
    _pass_over(items, stream.part, archive, part_rows)
    with Progress(stream.part, stream.total, archive.items) as progress:
        while chunk := list(islice(items, part_rows)):
            stamps = image_stamps(stream.part, chunk)
            found = embed_items(engine, stream, chunk, skip_bad, False, progress.advance)
            ids = [item.id for index, item in enumerate(chunk) if index not in found.reasons]
            rejects = [
                Reject(chunk[index].id, archive.items + index, reason)
                for index, reason in sorted(found.reasons.items())
            ]
            archive.write(ids, found.rows, rejects, items_digest(chunk, stamps, found.reasons))
    if archive.items:
        archive.finish()


def _pass_over(items: Iterator[Item], kind: str, archive: Archive, part_rows: int) -> None:
    """Read again what is done, and make sure that it is the same."""
    first = 0
    for number, part in enumerate(archive.parts):
        chunk = list(islice(items, part_rows))
        rejected = {index - first for index in archive.rejected_indices(number)}
        if len(chunk) != part.items or items_digest(chunk, image_stamps(kind, chunk), rejected) != part.sha256:
            raise InputError(
                f"{archive.folder} cannot be resumed: items {first:,} to {first + part.items - 1:,} are no longer "
                f"those that part-{number:05d}.parquet was made of; an input was changed. Put the inputs back, or "
                "write to another folder."
            )
        first += part.items


def _metadata(engine: Engine, kind: str) -> dict[str, str]:
    return {
        "family": engine.manifest.family,
        "model_digest": model_digest(engine, kind),
        "provider": engine.provider,
        "precision": engine.precision[kind],
        "weights": json.dumps(engine.manifest.source.weights),
    }


def _how(engine: Engine, kind: str) -> str:
    return f"{engine.provider}, {engine.precision[kind]}"


def _nothing(stream: Stream) -> str:
    return f"There is nothing to embed: {', '.join(source.name for source in stream.sources)} held no items."
