"""This engine's texts by other graphs, made of the bundle's fp32 graph for the occasion.

To see on a GPU whether one of them is worth an artifact of its own: batches, engine and options are this engine's, but
for what is tried. ONNX's `Attention` operator; residuals and norms in half precision; and for single queries CUDA
graphs, which launch all kernels of a fixed shape at once.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.contract import Case, Open, Prepare, Run, Spec

__all__ = ["MADE_GRAPH", "QUERY_GRAPHS", "QUERY_LENGTHS", "FixedShape"]

# A query is padded to the first of these that is long enough; each is a CUDA graph with buffers of its own.
QUERY_LENGTHS = (16, 32, 64)


def _texts(spec: Spec) -> Prepare:
    """Told: "provider"; "attention", whether by ONNX's operator; "half_residuals"."""
    from runtime.bundle import open_bundle
    from runtime.engines import PROVIDERS, SessionOptions
    from runtime.text import Tokenizer
    from runtime.text.batching import pad_batch, plan_batches

    bundle = open_bundle(spec["bundle"])
    provider = PROVIDERS[spec["provider"]]
    # What is opened is mapped or copied: it needs no file any more.
    with tempfile.TemporaryDirectory(prefix="made-graph-", dir=spec["made"], ignore_cleanup_errors=True) as folder:
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


def _queries(spec: Spec) -> Prepare:
    """Texts one by one, in the fixed shapes of `QUERY_LENGTHS`."""
    from runtime.bundle import open_bundle
    from runtime.text import Tokenizer

    bundle = open_bundle(spec["bundle"])
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)
    with tempfile.TemporaryDirectory(prefix="made-graph-", dir=spec["made"], ignore_cleanup_errors=True) as folder:
        graph = _written(spec, Path(folder))
        shapes = [
            FixedShape(graph, length, spec["provider"], spec["precision"], spec["threads"]) for length in QUERY_LENGTHS
        ]

    def prepare(case: Case) -> Run:
        texts = case["texts"]

        def run() -> NDArray[np.float32]:
            found = []
            for row in tokenizer.encode(texts):
                shape = next((each for each in shapes if each.length >= len(row)), None)
                if shape is None:
                    raise ValueError(f"a text of {len(row)} tokens is none of the queries these graphs are for")
                found.append(shape.embed(row, tokenizer.pad_token_id))
            return np.stack(found)

        return run

    return prepare


class FixedShape:
    """A text graph for one row of one length, with its inputs and output at fixed addresses of the device."""

    def __init__(self, graph: Path, length: int, provider: str, precision: str, threads: int) -> None:
        """Open; the first `embed` captures the CUDA graph.

        Args:
            graph: a plain text graph, its axes named "batch" and "sequence".
            length: tokens of the row.
            provider: "cuda", or "cpu", where nothing is captured and all else is alike.
            precision: of the graph.
            threads: on the processor.
        """
        import onnxruntime

        from runtime.engines.gpu import cuda_options, load_libraries

        self.length = length
        self._device = "cuda" if provider == "cuda" else "cpu"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Shapes are constants then: no node is left on the processor, where a capture would end.
        options.add_free_dimension_override_by_name("batch", 1)
        options.add_free_dimension_override_by_name("sequence", length)
        providers: Sequence[Any] = ["CPUExecutionProvider"]
        if provider == "cuda":
            load_libraries("CUDAExecutionProvider")
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            providers = [("CUDAExecutionProvider", {**cuda_options(precision), "enable_cuda_graph": "1"})]
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=providers)
        self._binding = self._session.io_binding()
        self._inputs = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ones((1, length), np.int64), self._device, 0)
            for name in ("input_ids", "attention_mask")
        }
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        size = next(each.shape[-1] for each in self._session.get_outputs() if each.name == "text_embeds")
        self._output = onnxruntime.OrtValue.ortvalue_from_shape_and_type([1, size], np.float32, self._device, 0)
        self._binding.bind_ortvalue_output("text_embeds", self._output)

    def embed(self, row: Sequence[int], pad_token_id: int) -> NDArray[np.float32]:
        """Embed a row of at most `length` tokens: float32 (D,)."""
        ids = np.full((1, self.length), pad_token_id, np.int64)
        ids[0, : len(row)] = row
        self._inputs["input_ids"].update_inplace(ids)
        self._inputs["attention_mask"].update_inplace((np.arange(self.length) < len(row)).astype(np.int64)[None])
        self._session.run_with_iobinding(self._binding)
        return np.array(self._output.numpy()[0])


def _written(spec: Spec, folder: Path) -> Path:
    """The graph that is wanted, in its precision."""
    from export.graphs.attention_operator import attention_graph
    from export.graphs.packing import plain_spec
    from export.precision.half import convert_half
    from runtime.bundle import open_bundle

    bundle = open_bundle(spec["bundle"])
    part = bundle.text_part()
    outside = plain_spec(part.embedding_size, part.tokenization.max_length)
    graph = bundle.path(bundle.artifact("text", "fp32").file)
    if spec.get("attention"):
        config = json.loads((bundle.path("text") / "config.json").read_text(encoding="utf-8"))
        plain, graph = graph, folder / "model_attention.onnx"
        attention_graph(plain, graph, outside, config["num_attention_heads"])
    if spec["precision"] == "fp32":
        return graph
    half = folder / f"model_{spec['precision']}.onnx"
    convert_half(graph, half, outside, spec["precision"], half_residuals=bool(spec.get("half_residuals")))
    return half


MADE_GRAPH: Mapping[str, Open] = MappingProxyType({"texts": _texts})
QUERY_GRAPHS: Mapping[str, Open] = MappingProxyType({"texts": _queries})
