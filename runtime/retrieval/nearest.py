"""Nearest neighbours by inner product, which of unit vectors is the cosine; by faiss.

Why faiss. Compared with usearch 2.26 on 100,000 × 128 vectors and 2 busy cores: both give exact float32 scores (largest
error 8e-8); 64 queries at once take 160 ms with faiss and 346 ms with usearch, a single one 36 and 9 ms; their graphs
have the same recall, and are built and searched about equally fast. faiss has wheels for Linux, macOS and Windows and
Python 3.10 to 3.13 (5 to 19 MB), needs nothing but numpy and packaging, and is under the MIT licence; its flat search
and its graph are what others are compared with. usearch's are smaller, but lean on a second compiled package (57 MB
together once installed on Linux, faiss 66 MB), which has been released without wheels for macOS, and its default
precision has changed between releases. One thing to know: on macOS, faiss and PyTorch in one process bring an OpenMP
each, which may crash; nothing of this runtime imports PyTorch.

Below `EXACT_BELOW` items every score is computed. From there on a graph (HNSW: Malkov and Yashunin, 2018) is searched
instead; how many of the true ten nearest it finds for vectors of its own is measured when it is built. 120,000 vectors
took 160 s to build on 2 busy cores.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import MissingExtraError
from runtime.process.forks import lost, started

__all__ = [
    "EXACT_BELOW",
    "GRAPH_SETTINGS",
    "RECALL_AT",
    "Graph",
    "build_graph",
    "check_faiss",
    "faiss_version",
    "measure_recall",
    "read_graph",
    "search_exact",
    "search_graph",
    "write_graph",
]

# 100,000 × 128 take 36 ms for one query on 2 busy cores: too little to give up exactness for.
EXACT_BELOW = 100_000
# Neighbours of a node, and candidates kept while building and while searching. Texts lie elsewhere than images, and so
# are harder to serve: among 120,000 synthetic vectors queries from elsewhere found 82 to 93 % of the true ten with
# 128 candidates (1 ms a query) and 98.5 to 98.9 % with 512 (9 ms); the index's own vectors all of them with either.
GRAPH_SETTINGS = {"neighbours": 32, "ef_construction": 100, "ef_search": 512}
RECALL_AT = 10
_RECALL_QUERIES = 500

# What faiss computes with, as `runtime.process.forks` knows it.
_OPENMP = "faiss"

Graph = Any  # faiss.IndexHNSWFlat

Neighbours = tuple[NDArray[np.float32], NDArray[np.int64]]


def check_faiss(purpose: str) -> None:
    """Fail before the work rather than after it.

    Raises:
        MissingExtraError: no faiss.
    """
    _faiss(purpose)


def faiss_version() -> str:
    """The version that is installed."""
    return str(_faiss("An index").__version__)


def search_exact(vectors: NDArray[np.float32], queries: NDArray[np.float32], top_k: int) -> Neighbours:
    """The greatest inner products of each query, all of them computed.

    Args:
        vectors: float32 (N, D).
        queries: float32 (Q, D).
        top_k: at most N.

    Returns:
        Scores float32 (Q, top_k), greatest first, and their rows int64 (Q, top_k); equal scores in the rows' order.
    """
    faiss = _faiss("Searching an index")
    return _ordered(*faiss.knn(queries, vectors, top_k, metric=faiss.METRIC_INNER_PRODUCT))


def build_graph(vectors: NDArray[np.float32]) -> Graph:
    """A graph over vectors, float32 (N, D)."""
    faiss = _faiss("Building an index")
    graph = faiss.IndexHNSWFlat(vectors.shape[1], GRAPH_SETTINGS["neighbours"], faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = GRAPH_SETTINGS["ef_construction"]
    graph.add(vectors)
    return graph


def search_graph(graph: Graph, vectors: NDArray[np.float32], queries: NDArray[np.float32], top_k: int) -> Neighbours:
    """Nearly the greatest inner products of each query; arguments and result as for `search_exact`."""
    faiss = _faiss("Searching an index")
    parameters = faiss.SearchParametersHNSW(efSearch=max(GRAPH_SETTINGS["ef_search"], 2 * top_k))
    scores, rows = graph.search(queries, top_k, params=parameters)
    lacking = np.flatnonzero((rows < 0).any(axis=1))  # fewer were reached than asked for
    if len(lacking):
        scores[lacking], rows[lacking] = search_exact(vectors, queries[lacking], top_k)
    return _ordered(scores, rows)


def measure_recall(graph: Graph, vectors: NDArray[np.float32]) -> tuple[float, int]:
    """How many of the true ten nearest neighbours the graph finds, for some of its own vectors.

    Returns:
        The share found, the vector itself not counted, and the number of vectors tried (500 drawn with seed 0).
    """
    count = min(_RECALL_QUERIES, len(vectors))
    chosen = np.sort(np.random.default_rng(0).permutation(len(vectors))[:count])
    top_k = min(RECALL_AT + 1, len(vectors))
    queries = np.ascontiguousarray(vectors[chosen])
    _, true = search_exact(vectors, queries, top_k)
    _, found = search_graph(graph, vectors, queries, top_k)
    shares = [
        len((set(a) - {own}) & (set(b) - {own})) / max(1, len(set(a) - {own}))
        for own, a, b in zip(chosen.tolist(), true.tolist(), found.tolist(), strict=True)
    ]
    return float(np.mean(shares)), count


def write_graph(graph: Graph, path: Path) -> None:
    """Write a graph, its vectors included."""
    _faiss("Writing an index").write_index(graph, str(path))


def read_graph(path: Path) -> Graph:
    """Read a graph. faiss does not defend itself against damaged files: compare the digest first.

    Raises:
        RuntimeError: faiss cannot read it.
    """
    return _faiss("Searching an index").read_index(str(path))


def _ordered(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> Neighbours:
    order = np.lexsort((rows, -scores), axis=1)
    ordered = np.take_along_axis(scores, order, axis=1)
    return np.clip(ordered, -1.0, 1.0), np.take_along_axis(rows, order, axis=1)


def _faiss(purpose: str) -> Any:
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        raise MissingExtraError(purpose, "faiss-cpu", "retrieval") from None
    if lost(_OPENMP):
        # A forked child lacks the threads that OpenMP still counts on. The setting holds for the thread that calls.
        faiss.omp_set_num_threads(1)
    else:
        started(_OPENMP)
    return faiss
