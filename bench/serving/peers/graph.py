"""A text graph of the bundle as people run it behind a server: tokenizers, a padded batch, ONNX Runtime or OpenVINO.

What to open is told by the environment, since each server starts its own processes: see `TOLD`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_BATCH", "TOLD", "TextGraph", "open_told"]

# The variable with JSON: "graph", "tokenizer", "engine", "threads"; for the runtime "bundle", "provider", "precision".
TOLD = "CXR_BENCH_SERVED"
# Texts a batch, where a server forms some.
MAX_BATCH = 32

Compute = Callable[[dict[str, NDArray[Any]]], NDArray[Any]]


class TextGraph:
    """Texts to embeddings, all texts of a call in one padded batch."""

    def __init__(self, graph: str, tokenizer: str, engine: str, threads: int, precision: str) -> None:
        """Open it.

        Args:
            graph: file of a graph with the inputs input_ids and attention_mask and the output text_embeds.
            tokenizer: its tokenizer.json.
            engine: "onnxruntime" or "openvino".
            threads: that compute.
            precision: of the graph.
        """
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.enable_padding()
        self._compute = _ENGINES[engine](graph, threads, precision)

    def __call__(self, texts: Sequence[str]) -> NDArray[Any]:
        """Embed: float32 (texts, D), unit norm."""
        rows = self._tokenizer.encode_batch(list(texts))
        return self._compute(
            {
                "input_ids": np.array([row.ids for row in rows], np.int64),
                "attention_mask": np.array([row.attention_mask for row in rows], np.int64),
            }
        )


def open_told() -> TextGraph:
    """The graph that the environment names."""
    told = json.loads(os.environ[TOLD])
    return TextGraph(told["graph"], told["tokenizer"], told["engine"], told["threads"], told["precision"])


def _onnxruntime(graph: str, threads: int, _: str) -> Compute:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["text_embeds"], inputs)[0]


def _openvino(graph: str, threads: int, precision: str) -> Compute:
    import openvino

    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    if precision == "fp32":
        # Processors with BF16 units would compute in bfloat16.
        options["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(graph, "CPU", options)
    # An output's memory is used again by the next run.
    return lambda inputs: compiled(inputs)["text_embeds"].copy()


_ENGINES: dict[str, Callable[[str, int, str], Compute]] = {"onnxruntime": _onnxruntime, "openvino": _openvino}
