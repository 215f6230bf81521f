"""Make an index of images or texts, from files or from embeddings that were written before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.archive import Stream, find_items
from runtime.archive.chunks import embed_stream, settle_rejects
from runtime.archive.digests import model_digest, part_digests
from runtime.archive.embedded import are_embeddings, read_embedded
from runtime.archive.items import Source
from runtime.archive.records import Reject
from runtime.engine import Engine
from runtime.errors import InputError
from runtime.files import Columns, Item, check_folder_destination, files_below
from runtime.process import flag, items_of, shown
from runtime.process.checks import TEXTS, one_text, path_of
from runtime.retrieval.index import Index, check_model, open_index
from runtime.retrieval.index_folder import IndexedItem, Origin, check_new_folder, write_folder
from runtime.retrieval.nearest import check_faiss

__all__ = ["build_index", "files_read", "find_stream", "index_embedded", "index_stream"]


def build_index(
    engine: Engine,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    texts: Sequence[str] = (),
    column: str = "text",
    image_column: str | None = None,
    id_column: str | None = None,
    skip_bad: bool = False,
    force: bool = False,
) -> Index:
    """Embed images or texts and write an index of them; `python -m runtime index` in a call.

    The index holds the texts themselves, or the paths of the images as they were given, to show what was found.

    Args:
        engine: with the part that embeds the inputs loaded; none is needed for embeddings.
        inputs: image files, folders, patterns, .txt, .csv, .jsonl or .parquet files; or files and folders that
            `python -m runtime embed` wrote to Parquet by the same bundle.
        out: the folder to write; it must not be there, unless `force` and it is an index.
        texts: texts given directly.
        column: text column of tables.
        image_column: take images instead: column of paths, relative to the table's folder.
        id_column: id column of tables.
        skip_bad: leave out what cannot be used and list it on stderr; otherwise it is an error.
        force: replace an index that is there, once the new one is complete; never one that holds an input.

    Returns:
        The index, opened.

    Raises:
        InputError: nothing to index, items that cannot be used (all are listed), embeddings of another model, a folder
            that is there already or is an input.
        MissingExtraError: no faiss, or a format's package is missing.
        BundleError: the engine lacks the part.
    """
    destination = path_of("out", out)
    if not isinstance(engine, Engine):
        raise InputError(f"engine={shown(engine)}; what runtime.load returns is expected.")
    columns = Columns(
        one_text("column", column),
        None if image_column is None else one_text("image_column", image_column),
        None if id_column is None else one_text("id_column", id_column),
    )
    skip_bad, force = flag("skip_bad", skip_bad), flag("force", force)
    check_new_folder(destination, force)
    check_faiss(f"Writing {destination}")
    names = [inputs] if isinstance(inputs, os.PathLike) else items_of(inputs, "inputs", "a path or a list of paths")
    # A str as it is: a slash at the end of a folder means something.
    paths = [name if isinstance(name, str) else str(path_of("an input", name)) for name in names]
    stream = find_stream(paths, items_of(texts, "texts", TEXTS), columns)
    check_folder_destination(destination, files_read(paths, stream))
    if stream is None:
        index_embedded(engine, paths, destination, force)
    else:
        index_stream(engine, stream, destination, skip_bad, force)
    return open_index(destination, engine)


def find_stream(inputs: Sequence[str], texts: Sequence[str], columns: Columns) -> Stream | None:
    """What is to be embedded, or None where the inputs are embeddings already.

    Raises:
        InputError: see `find_items` and `are_embeddings`.
        MissingExtraError: a .parquet file without pyarrow.
    """
    if not columns.image and not texts and are_embeddings(inputs):
        return None
    return find_items(inputs, texts, columns)


def files_read(inputs: Sequence[str], stream: Stream | None) -> Iterable[str | Path]:
    """Paths of the files and folders that an index is made of; see `Stream.files`."""
    return chain(inputs, stream.files() if stream else (file for name in inputs for file in files_below(name)))


def index_stream(engine: Engine, stream: Stream, out: Path, skip_bad: bool, force: bool = False) -> int:
    """Embed a stream and write its index.

    Args:
        engine: with the stream's part loaded.
        stream: what to embed.
        out: the folder to write.
        skip_bad: see `build_index`; so is force.

    Returns:
        The number of items.

    Raises:
        InputError: see `build_index`.
    """
    seen: list[Any] = []
    recorded = replace(stream, sources=tuple(_recorded(source, seen) for source in stream.sources))
    items: list[IndexedItem] = []
    rows: list[NDArray[np.float32]] = []
    rejects: list[Reject] = []
    name = "path" if stream.part == "image" else "text"
    for chunk in embed_stream(engine, recorded, skip_bad):
        start = len(items) + len(rejects)
        bad = {reject.index for reject in chunk.rejects}
        good = (value for index, value in enumerate(seen, start) if index not in bad)
        items += [IndexedItem(identity, **{name: value}) for identity, value in zip(chunk.ids, good, strict=True)]
        rows.append(chunk.rows)
        rejects += chunk.rejects
        seen.clear()
    settle_rejects(stream.part, rejects, len(items) + len(rejects), skip_bad)
    if not items:
        raise InputError(
            "Nothing is left to index." if rejects else "There is nothing to index: the inputs held no items."
        )
    source = engine.manifest.source
    origin = Origin(
        stream.part,
        engine.manifest.family,
        model_digest(engine, stream.part),
        source.weights,
        engine.provider,
        engine.precision[stream.part],
        source.kind == "random",
    )
    write_folder(out, origin, np.concatenate(rows), items, force=force)
    return len(items)


def index_embedded(engine: Engine, inputs: Sequence[str], out: Path, force: bool = False) -> int:
    """Write an index of embeddings that `embed` wrote; what the files hold beside them, ids, is all it can show.

    Args:
        engine: of the bundle that made them, with any part loaded.
        inputs: for which `are_embeddings` is true.
        out: the folder to write.
        force: see `build_index`.

    Returns:
        The number of items.

    Raises:
        InputError: another model made them; see `read_embedded`.
    """
    found = read_embedded(inputs)
    kind = next((part for part in ("text", "image") if found.model_digest in part_digests(engine.manifest, part)), None)
    # Of a bundle that has no such part either is wrong, and says so.
    origin = Origin(
        kind or "image",
        found.family,
        found.model_digest,
        found.weights,
        found.provider,
        found.precision,
        engine.manifest.source.kind == "random",
    )
    check_model(engine.manifest, origin, inputs[0])
    if not found.ids:
        raise InputError(f"There is nothing to index: {', '.join(inputs)} held no embeddings.")
    # The id of an image is its path, unless a column of ids was named.
    items = (IndexedItem(each, path=each if kind == "image" else None) for each in found.ids)
    write_folder(out, origin, found.rows, items, force=force)
    return len(found.ids)


def _recorded(source: Source, seen: list[Any]) -> Source:
    """A source that notes what it hands out."""

    def read() -> Iterator[Item]:
        for item in source.read():
            seen.append(item.value)
            yield item

    return replace(source, read=read)
