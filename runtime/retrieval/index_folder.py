"""An index on disk: a folder that appears whole, says what made it, and is checked before it is used.

INDEX/index.json      what made it, counts, and size and sha256 of the other files
INDEX/vectors.npy     float32 (N, D), unit L2 norm, in the order of the items
INDEX/items.jsonl     a line for each item: id, and its text or the path of its image where they are known
INDEX/graph.faiss     from 100,000 items on: the graph that is searched instead of all vectors
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from runtime.archive.output import clean_id
from runtime.bundle.manifest import FileEntry
from runtime.errors import InputError
from runtime.files import read_json, sha256_file
from runtime.files.decode import decode
from runtime.files.replaceable import real_path
from runtime.files.whole_file import PARTIAL, put_folder, sync
from runtime.process.version import __version__
from runtime.process.wording import few
from runtime.retrieval.nearest import (
    EXACT_BELOW,
    GRAPH_SETTINGS,
    build_graph,
    faiss_version,
    measure_recall,
    write_graph,
)

__all__ = [
    "GRAPH",
    "ITEMS",
    "VECTORS",
    "About",
    "GraphRecord",
    "IndexedItem",
    "Origin",
    "check_new_folder",
    "read_about",
    "write_folder",
]

SCHEMA_VERSION = 1
ABOUT, VECTORS, ITEMS, GRAPH = "index.json", "vectors.npy", "items.jsonl", "graph.faiss"
_AGAIN = "Make it again with: python -m runtime index BUNDLE INPUT --out INDEX"
_UNIT = 1e-3
# Ends the name of an index while its successor takes its place.
_REPLACED = ".replaced"


@dataclass(frozen=True)
class IndexedItem:
    """One thing that can be found.

    Attributes:
        id: see `runtime.files.tables.Item`.
        text: the text, or None for an image and where it is not known (embeddings that were written before).
        path: the image's path as it was given, or None for a text and where it is not known.
    """

    id: str
    text: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class Origin:
    """What made the vectors.

    Attributes:
        kind: "text" or "image": what the items are.
        family: of the bundle.
        model_digest: of the bundle's part of that kind, see `runtime.archive.digests`.
        weights: sha256 of each weights file that the bundle was exported from.
        provider: inference engines that computed the vectors.
        precision: what they computed in.
        random_weights: the weights are random, so that no result means anything.
    """

    kind: str
    family: str
    model_digest: str
    weights: dict[str, str]
    provider: str
    precision: str
    random_weights: bool


@dataclass(frozen=True)
class GraphRecord:
    """How the graph was built, and what it finds.

    Attributes:
        settings: see `runtime.retrieval.nearest.GRAPH_SETTINGS`.
        recall: share of the true ten nearest that it found for vectors of its own. Queries of the other kind lie
            elsewhere: for them it may find less.
        queries: number of those vectors.
    """

    settings: dict[str, int]
    recall: float
    queries: int


@dataclass(frozen=True)
class About:
    """What index.json says.

    Attributes:
        items: number of items.
        embedding_size: length of a vector.
        graph: None where every score is computed.
        versions: of this package and of faiss.
        files: the other files.
    """

    schema_version: int
    items: int
    embedding_size: int
    origin: Origin
    graph: GraphRecord | None
    versions: dict[str, str]
    files: dict[str, FileEntry]


def check_new_folder(out: Path, force: bool = False) -> None:
    """Fail before the work rather than after it.

    Args:
        out: the folder to be written.
        force: whether an index may be there, which is replaced.

    Raises:
        InputError: something else of that name is there, or its folder cannot be written.
    """
    if out.is_symlink():
        raise InputError(f"{out} already exists, as a symbolic link. Give --out the folder itself: {real_path(out)}")
    if out.exists() and not force:
        raise InputError(f"{out} already exists. Give --out another name, or replace an index with --force.")
    if out.exists():
        names = {path.name for path in out.iterdir()} if out.is_dir() else set()
        if ABOUT not in names:
            raise InputError(f"{out} is no index (it has no {ABOUT}), so --force does not replace it.")
        others = sorted(names - {ABOUT, VECTORS, ITEMS, GRAPH})
        if others:
            raise InputError(
                f"{out} holds more than an index, so --force does not replace it: {few(others, 3)}. Move that "
                "away first."
            )
    if not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: the folder {out.parent} does not exist. Create it first.")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise InputError(f"{out} cannot be written: no permission to write in {out.parent}.")


def write_folder(
    out: Path,
    origin: Origin,
    vectors: NDArray[np.float32],
    items: Iterable[IndexedItem],
    exact_below: int = EXACT_BELOW,
    force: bool = False,
) -> None:
    """Write an index; the folder appears whole or not at all.

    Args:
        out: the folder; it must not be there, unless `force` and it is an index.
        origin: what made the vectors.
        vectors: float32 (N, D), unit L2 norm.
        items: N of them.
        exact_below: from so many items on a graph is built.
        force: replace an index, once the new one is complete.

    Raises:
        InputError: see `check_new_folder`; vectors that are no unit vectors.
        MissingExtraError: no faiss.
        OSError: a full disk, say.
    """

    check_new_folder(out, force)
    norms = np.linalg.norm(vectors, axis=1)
    if not (np.abs(norms - 1) <= _UNIT).all():  # NaN is not within anything either
        row = int(np.flatnonzero(~(np.abs(norms - 1) <= _UNIT))[0])
        raise InputError(f"Embedding {row} has the norm {norms[row]:.4g}; 1 is expected. Embed the items again.")
    versions = {"cxr-engine": __version__, "faiss": faiss_version()}
    stage = out.with_name(f".{out.name}{PARTIAL}{os.getpid()}")
    _remove_leftovers(out)
    stage.mkdir()
    try:
        np.save(stage / VECTORS, np.ascontiguousarray(vectors, dtype="<f4"))
        with (stage / ITEMS).open("w", encoding="utf-8") as stream:
            for item in items:
                known = {"id": clean_id(item.id), "text": item.text, "path": item.path and clean_id(item.path)}
                known = {name: value for name, value in known.items() if value is not None}
                stream.write(json.dumps(known, ensure_ascii=False) + "\n")
        record = None
        if len(vectors) >= exact_below:
            graph = build_graph(vectors)
            write_graph(graph, stage / GRAPH)
            record = GraphRecord(dict(GRAPH_SETTINGS), *measure_recall(graph, vectors))
        files = {path.name: FileEntry(sha256_file(path), path.stat().st_size) for path in sorted(stage.iterdir())}
        count, size = vectors.shape
        about = About(SCHEMA_VERSION, count, size, origin, record, versions, files)
        (stage / ABOUT).write_text(json.dumps(asdict(about), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        for path in (*stage.iterdir(), *([stage] if os.name == "posix" else [])):
            sync(path)
        check_new_folder(out, force)  # hours may have passed
        put_folder(stage, out, stage.with_name(f"{stage.name}{_REPLACED}"))
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _remove_leftovers(out: Path) -> None:
    """Delete what killed processes of this machine left beside the same folder."""
    for leftover in out.parent.glob(f".{out.name}{PARTIAL}*"):
        process = leftover.name.rpartition("-")[2]
        if process.endswith(_REPLACED):  # an old index, which is only rubbish once its successor is in place
            if not out.exists():
                continue
            process = process.removesuffix(_REPLACED)
        if process == str(os.getpid()) or (os.name == "posix" and process.isdigit() and not _alive(int(process))):
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def read_about(folder: Path) -> About:
    """Read index.json and compare every file with its size and sha256.

    Raises:
        InputError: no index, one of a newer schema, or files that are missing or changed; all of them are listed.
    """
    path = folder / ABOUT
    if not folder.is_dir():
        what = "is a file; an index is a folder" if folder.exists() else "does not exist"
        raise InputError(f"There is no index at {folder}: it {what}. {_AGAIN}")
    if not path.is_file():
        raise InputError(f"{folder} is no index: it has no {ABOUT}. {_AGAIN}")
    try:
        data = read_json(path)
        version = data.get("schema_version") if isinstance(data, dict) else None
        if not isinstance(version, int):
            raise ValueError("it has no schema_version")
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{folder} is an index of schema version {version}; this runtime reads {SCHEMA_VERSION}. Install a "
                "newer version with: pip install -U cxr-engine"
            )
        about = cast(About, decode(About, data, "index"))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be used ({error}). {_AGAIN}") from None
    needed = {VECTORS, ITEMS, *([GRAPH] if about.graph else [])}
    faults = [f"{name}: not listed in {ABOUT}" for name in sorted(needed - about.files.keys())]
    faults += [f"{name}: {fault}" for name, entry in about.files.items() if (fault := _fault(folder, name, entry))]
    if faults:
        raise InputError(f"{folder} is damaged. Copy it again, or make it again:\n  " + "\n  ".join(faults))
    return about


def _fault(folder: Path, name: str, entry: FileEntry) -> str | None:
    file = folder / name
    if Path(name).name != name:
        return "leads out of the folder"
    if not file.is_file():
        return "missing"
    if file.stat().st_size != entry.bytes:
        return f"{file.stat().st_size:,} bytes, expected {entry.bytes:,}"
    found = sha256_file(file)
    return None if found == entry.sha256 else f"its sha256 is {found}, expected {entry.sha256}"
