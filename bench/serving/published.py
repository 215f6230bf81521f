"""What others have published or been measured to cost: for orientation, none of it measured by this program."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """A figure of someone else's: of which server, what, where it was taken, where it stands."""

    server: str
    figure: str
    machine: str
    source: str


_INFINITY = "infinity's docs/docs/benchmarking.md (commit fcb951c)"
_CASCADE = "Cascade Lake, 16 cores; bge-small, 256 sentences (115,000 tokens) a request"
PUBLISHED: tuple[Published, ...] = (
    Published("infinity, optimum int8", "0.10 requests/s", _CASCADE, _INFINITY),
    Published("infinity, optimum ONNX", "0.08 requests/s", _CASCADE, _INFINITY),
    Published("fastembed", "0.08 requests/s", _CASCADE, _INFINITY),
    Published("sentence-transformers", "0.04 requests/s", _CASCADE, _INFINITY),
    Published("text-embeddings-inference, candle on CPU", "0.009 requests/s", _CASCADE, _INFINITY),
    Published("text-embeddings-inference (0.6)", "0.54 requests/s", "NVIDIA L4, bge-large", _INFINITY),
    Published("infinity", "0.51 requests/s", "NVIDIA L4, bge-large", _INFINITY),
    Published(
        "LitServe",
        "at least 390 requests/s, the gate of its CI",
        "RTX 3090, BERT",
        "its tests/perf_test/bert (1311d5b)",
    ),
    Published("Granian", "102,000 ASGI echoes/s", "its benchmarks' machine", "its benchmarks/README.md"),
    Published(
        "Ray Serve",
        "waits 10 ms for company at low load",
        "any",
        "its serve/batching.py (2.60.0)",
    ),
    Published("infinity", "sleeps 5 ms between stages", "any", "its inference/batch_handler.py (fcb951c)"),
    Published(
        "text-embeddings-inference",
        "no wait for company; the ONNX backend on CPU is held to 8 requests a batch",
        "any",
        "its backends/ort, core/src/queue.rs (0d124dc)",
    ),
)
