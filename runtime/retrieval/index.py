"""An index of images or texts, opened for search.

    index = runtime.open_index("films.index", engine)
    found = index.search(engine.text.encode("left pleural effusion"), top_k=5)
    found.ids[0], found.scores[0]

Texts and images share one space, so an index of either is searched with either. See `nearest.py` for how and by which
library, `index_folder.py` for what is on disk, `retrieval.py` for how it is made.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.archive.digests import part_digests
from runtime.bundle import Manifest
from runtime.bundle.verified import MappedFiles, Stamp
from runtime.engine import Engine
from runtime.errors import InputError
from runtime.process import array_of, flag
from runtime.process.checks import path_of, whole_number
from runtime.retrieval.index_folder import GRAPH, ITEMS, VECTORS, About, IndexedItem, Origin, read_about
from runtime.retrieval.nearest import Graph, check_faiss, read_graph, search_exact, search_graph

__all__ = ["Found", "Index", "check_model", "open_index"]

# How often a folder that changes while it is being opened is opened again.
_TRIES = 3


@dataclass(frozen=True)
class Found:
    """What a search found, best first; row q is for query q.

    Attributes:
        ids: of the items, (Q, k).
        scores: float32 (Q, k): cosines in [-1, 1].
        rows: int64 (Q, k): positions in the index, see `Index.item`.
    """

    ids: list[list[str]]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]


class Index:
    """An opened index; made by `open_index`.

    Attributes:
        folder: where it lies, absolute, links resolved.
        kind: "text" or "image": what its items are.
        embedding_size: length of an embedding.
        exact: whether every score is computed; otherwise a graph is searched, see `about.graph` for its recall.
        about: everything that it says of itself.
    """

    def __init__(
        self,
        folder: Path,
        about: About,
        vectors: NDArray[np.float32],
        lines: list[bytes],
        graph: Graph,
        mapped: MappedFiles,
    ) -> None:
        self.folder = folder
        self.about = about
        self.kind = about.origin.kind
        self.embedding_size = about.embedding_size
        self.exact = graph is None
        self._vectors = vectors
        self._lines = lines
        self._graph = graph
        self._mapped = mapped

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder, self.about)

    def __len__(self) -> int:
        return self.about.items

    def __repr__(self) -> str:
        how = "exact" if self.exact else "graph"
        return f"Index({str(self.folder)!r}, kind={self.kind!r}, items={len(self):,}, {how})"

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Its embeddings, float32 (N, D), unit L2 norm, read-only; read from the disk as they are used."""
        return self._vectors

    def search(self, embeddings: NDArray[np.float32], top_k: int = 10, *, exact: bool = False) -> Found:
        """The items that are nearest to embeddings of texts or images of the same model.

        Args:
            embeddings: float32 (Q, D), unit L2 norm, as `engine.text.encode` and `engine.image.encode` give them.
            top_k: items for each query; all of them where the index has fewer.
            exact: compute every score even where there is a graph.

        Returns:
            ids, scores float32 (Q, k) and rows, best first; equal scores stand in the order of the index.

        Raises:
            InputError: another shape or dtype, values that are not finite, top_k below 1; the index was written to.
            MissingExtraError: no faiss.
        """
        queries = array_of("embeddings", embeddings, f"float32 (Q, {self.embedding_size})")
        if queries.dtype != np.float32 or queries.ndim != 2 or queries.shape[1] != self.embedding_size:
            raise InputError(
                f"The queries are {queries.dtype} {queries.shape}; float32 (Q, {self.embedding_size}) is expected, as "
                "encode() gives them."
            )
        if not np.isfinite(queries).all():
            raise InputError("The queries hold what is no finite number.")
        top_k, exact = whole_number("top_k", top_k), flag("exact", exact)
        queries = np.ascontiguousarray(queries)
        top_k = min(top_k, len(self))
        self._mapped.check()
        if exact or self._graph is None:
            scores, rows = search_exact(self._vectors, queries, top_k)
        else:
            scores, rows = search_graph(self._graph, self._vectors, queries, top_k)
        self._mapped.check()
        return Found([[self.item(row).id for row in each] for each in rows.tolist()], scores, rows)

    def item(self, row: int) -> IndexedItem:
        """The item at a position of the index, from 0."""
        known: dict[str, Any] = json.loads(self._lines[whole_number("row", row, least=0, most=len(self) - 1)])
        return IndexedItem(known["id"], known.get("text"), known.get("path"))


def open_index(path: str | os.PathLike[str], engine: Engine | None = None) -> Index:
    """Open an index that `python -m runtime index` or `build_index` made. Every file is compared with its sha256.

    Args:
        path: the folder.
        engine: that it will be searched with; an index that another model made is then refused. Either part of the
            bundle may be loaded: the image index of a bundle is searched with its text part as well.

    Raises:
        InputError: no index, a damaged one, one of a newer schema, or of another model.
        MissingExtraError: no faiss.
    """
    named = path_of("index", path)
    check_faiss(f"Searching {named}")
    try:
        folder = named.resolve()
    except (OSError, RuntimeError) as error:  # a working folder that was removed, a loop of links
        raise InputError(f"There is no index at {named}: {error}") from None
    for left in reversed(range(_TRIES)):
        before = _stamps(folder)
        index = _open(folder, engine)
        if _stamps(folder) == before:
            return index
        if left == 0 and read_about(folder) == index.about:  # some file systems have no lasting inodes
            return index
    raise InputError(f"{folder} changes while it is being opened. Open it again.")


def _open(folder: Path, engine: Engine | None) -> Index:
    about = read_about(folder)
    if engine is not None:
        check_model(engine.manifest, about.origin, str(folder))
    try:
        stamp = Stamp.of((folder / VECTORS).stat())
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        lines = (folder / ITEMS).read_bytes().splitlines()
        graph = read_graph(folder / GRAPH) if about.graph else None
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder} cannot be read: {error}") from None
    shape = (about.items, about.embedding_size)
    if vectors.shape != shape or vectors.dtype != np.float32 or len(lines) != about.items:
        raise InputError(
            f"{folder} is damaged: it has {vectors.dtype} {vectors.shape} and {len(lines)} items where float32 {shape} "
            "is expected. Make it again."
        )
    mapped = MappedFiles({folder / VECTORS: (about.files[VECTORS].sha256, stamp)}, InputError, "index")
    return Index(folder, about, vectors, lines, graph, mapped)


def _stamps(folder: Path) -> dict[str, Stamp]:
    try:
        return {file.name: Stamp.of(file.stat()) for file in folder.iterdir()}
    except OSError:  # what opens it says it better
        return {}


def _reopen(folder: Path, about: About) -> Index:
    """The index that was pickled."""
    index = open_index(folder)
    if index.about != about:
        raise InputError(f"{folder} was made again after it was opened there. Open it again.")
    return index


def check_model(manifest: Manifest, origin: Origin, name: str) -> None:
    """Make sure that embeddings come from a bundle, in whatever precision of it.

    Args:
        manifest: the bundle's.
        origin: what made the embeddings.
        name: what to call them.

    Raises:
        InputError: another model made them.
    """
    there = part_digests(manifest, origin.kind)
    if origin.model_digest not in there or origin.weights != manifest.source.weights:
        raise InputError(
            f"{name} was made by another model: {origin.family}, digest of its {origin.kind} part "
            f"{origin.model_digest[:16]}…, computed in {origin.precision}; this bundle is {manifest.family} with "
            f"{_listed(there)}. Use the bundle it was made with, or make it again with this one."
        )


def _listed(digests: dict[str, str]) -> str:
    return ", ".join(f"{digest[:16]}… ({precision})" for digest, precision in digests.items()) or "no such part"
