"""CXR-BERT's texts through what other tools made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.bert.making import EMBEDS, GRAPH, HEAD, MODEL, made
from bench.peers.contract import BATCH, STRIPPED, Case, Open, Prepare, Run, Spec, sorted_batches
from bench.peers.plain import Engine, onnxruntime_engine, openvino_engine

__all__ = ["BERT"]

# Rows of token ids, each as long as it is → float32 (rows, D) of unit norm.
Embed = Callable[[list[list[int]]], NDArray[Any]]
# CTranslate2's own default for files of texts.
_CTRANSLATE2_BATCH = 32


def _sorted(spec: Spec, embed_rows: Embed, size: int = BATCH) -> Prepare:
    """Tokenized by the library tokenizers, sorted by length."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(made(spec, "bert") / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def prepare(case: Case) -> Run:
        texts = case["texts"]

        def run() -> NDArray[Any]:
            rows = [each.ids for each in tokenizer.encode_batch([text.rstrip(STRIPPED) for text in texts])]

            def embed(places: list[int]) -> NDArray[Any]:
                return embed_rows([rows[place] for place in places])

            return sorted_batches([len(row) for row in rows], embed, size)

        return run

    return prepare


def _padded(rows: list[list[int]]) -> dict[str, NDArray[np.int64]]:
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def _exported(engine: Engine, what: str, file: str) -> Open:
    """An engine on a graph that was made."""

    def start(spec: Spec) -> Prepare:
        compute = engine(str(made(spec, what) / file), spec["threads"])
        return _sorted(spec, lambda rows: compute(_padded(rows), EMBEDS))

    return start


def _ctranslate2(spec: Spec) -> Prepare:
    """CTranslate2's encoder in int8, the projection head in PyTorch."""
    import ctranslate2
    import torch

    torch.set_num_threads(spec["threads"])
    encoder = ctranslate2.Encoder(
        str(made(spec, "bert-ctranslate2")), device="cpu", compute_type="int8", intra_threads=spec["threads"]
    )
    project = _projection(made(spec, "bert"))

    def embed(rows: list[list[int]]) -> NDArray[Any]:
        states = np.asarray(encoder.forward_batch(rows).last_hidden_state)
        return project(states[:, 0])

    return _sorted(spec, embed, _CTRANSLATE2_BATCH)


def _projection(folder: Path) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The projection head on states of [CLS], float32 (N, hidden) → (N, 128) of unit norm."""
    import torch

    from bench.peers.cxr_bert import load_projection_head

    head = load_projection_head(folder / HEAD)

    def project(states: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            projected = head(torch.from_numpy(np.ascontiguousarray(states)))
            return np.asarray(torch.nn.functional.normalize(projected, dim=-1).numpy())

    return project


BERT: Mapping[str, Mapping[str, Open]] = MappingProxyType(
    {
        "bert-ctranslate2-int8": {"texts": _ctranslate2},
        "bert-onnxruntime-dynamic-int8": {"texts": _exported(onnxruntime_engine, "bert-onnx-int8", GRAPH)},
        "bert-openvino-nncf-int8": {"texts": _exported(openvino_engine(), "bert-nncf", MODEL)},
    }
)
