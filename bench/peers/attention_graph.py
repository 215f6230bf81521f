"""This engine's texts by a graph with ONNX's `Attention` operator, made of the bundle's fp32 graph for the occasion.

To see on a GPU whether it is worth an artifact of its own: batches, engine and options are this engine's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bench.peers.contract import Case, Open, Prepare, Run, Spec

__all__ = ["ATTENTION_GRAPH"]


def _texts(spec: Spec) -> Prepare:
    from runtime.bundle import open_bundle
    from runtime.engines import PROVIDERS, SessionOptions
    from runtime.text import Tokenizer
    from runtime.text.batching import pad_batch, plan_batches

    bundle = open_bundle(spec["bundle"])
    provider = PROVIDERS[spec["provider"]]
    # What is opened is mapped or copied: it needs no file any more.
    with tempfile.TemporaryDirectory(prefix="attention-", dir=spec["made"], ignore_cleanup_errors=True) as folder:
        graph = _written(spec, Path(folder))
        session = provider.open(graph, SessionOptions(spec["threads"], spec["precision"]))
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)

    def prepare(case: Case) -> Run:
        texts = case["texts"]

        def run() -> NDArray[np.float32]:
            rows = tokenizer.encode(texts)
            answer = np.empty((len(rows), bundle.text_part().embedding_size), np.float32)
            for places in plan_batches([len(row) for row in rows], provider.batch["text"]):
                ids, mask = pad_batch([rows[place] for place in places], tokenizer.pad_token_id)
                (answer[places],) = session.run(["text_embeds"], {"input_ids": ids, "attention_mask": mask})
            return answer

        return run

    return prepare


def _written(spec: Spec, folder: Path) -> Path:
    """The graph in the precision that is wanted."""
    from export.graphs.attention_operator import attention_graph
    from export.graphs.packing import plain_spec
    from export.precision.half import convert_half
    from runtime.bundle import open_bundle

    bundle = open_bundle(spec["bundle"])
    part = bundle.text_part()
    outside = plain_spec(part.embedding_size, part.tokenization.max_length)
    config = json.loads((bundle.path("text") / "config.json").read_text(encoding="utf-8"))
    whole = folder / "model_attention.onnx"
    attention_graph(bundle.path(bundle.artifact("text", "fp32").file), whole, outside, config["num_attention_heads"])
    if spec["precision"] == "fp32":
        return whole
    half = folder / f"model_attention_{spec['precision']}.onnx"
    convert_half(whole, half, outside, spec["precision"])
    return half


ATTENTION_GRAPH: Mapping[str, Open] = MappingProxyType({"texts": _texts})
