"""CXR-BERT in int8 by sentence-transformers and optimum, in the environment of `make peers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.peers.bert.foreign_making import (
    OPTIMUM_ONNX,
    OPTIMUM_OPENVINO,
    SENTENCE_ONNX,
    SENTENCE_OPENVINO,
    made_here,
)
from bench.peers.bert.making import HEAD, made
from bench.peers.contract import STRIPPED, Case, Open, Prepare, Run, Spec
from bench.peers.foreign import optimum_texts

__all__ = ["FOREIGN_BERT"]

# Of CXR-BERT's projection head; sentence-transformers' module has PyTorch's.
_EPSILON, _NORM = 1e-12, 3


def _sentence_onnx(spec: Spec) -> Prepare:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec["threads"]
    told = {"file_name": SENTENCE_ONNX, "provider": "CPUExecutionProvider", "session_options": options}
    return _sentence_transformers(spec, "onnx", made_here(spec, "sentence-transformers-onnx-int8"), told)


def _sentence_openvino(spec: Spec) -> Prepare:
    told = {"file_name": SENTENCE_OPENVINO, "ov_config": {"INFERENCE_NUM_THREADS": spec["threads"]}}
    return _sentence_transformers(spec, "openvino", made_here(spec, "sentence-transformers-openvino-int8"), told)


def _sentence_transformers(spec: Spec, backend: str, folder: Path, told: Mapping[str, Any]) -> Prepare:
    """It sorts by length itself, batches of 32."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(spec["threads"])
    model = SentenceTransformer(str(folder), device="cpu", backend=backend, model_kwargs=dict(told))
    model[_NORM].norm.eps = _EPSILON

    def prepare(case: Case) -> Run:
        texts = [text.rstrip(STRIPPED) for text in case["texts"]]
        return lambda: np.asarray(model.encode(texts, show_progress_bar=False))

    return prepare


def _optimum_onnx(spec: Spec) -> Prepare:
    import onnxruntime
    from optimum.onnxruntime import ORTModelForFeatureExtraction

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec["threads"]
    folder = made_here(spec, "optimum-onnx-int8")
    return _optimum(
        spec, ORTModelForFeatureExtraction.from_pretrained(folder, file_name=OPTIMUM_ONNX, session_options=options)
    )


def _optimum_openvino(spec: Spec) -> Prepare:
    from optimum.intel import OVModelForFeatureExtraction

    config = {"INFERENCE_NUM_THREADS": spec["threads"]}
    folder = made_here(spec, "optimum-openvino-int8")
    return _optimum(
        spec, OVModelForFeatureExtraction.from_pretrained(folder, file_name=OPTIMUM_OPENVINO, ov_config=config)
    )


def _optimum(spec: Spec, model: Any) -> Prepare:
    """Sorted by length, the projection head in PyTorch."""
    import torch
    from transformers import AutoTokenizer

    from bench.peers.cxr_bert import load_projection_head

    torch.set_num_threads(spec["threads"])
    bert = made(spec, "bert")
    tokenizer, head = AutoTokenizer.from_pretrained(bert), load_projection_head(bert / HEAD)
    return optimum_texts(model, tokenizer, head)


FOREIGN_BERT: Mapping[str, Mapping[str, Open]] = MappingProxyType(
    {
        "bert-sentence-transformers-onnx-int8": {"texts": _sentence_onnx},
        "bert-sentence-transformers-openvino-int8": {"texts": _sentence_openvino},
        "bert-optimum-onnx-int8": {"texts": _optimum_onnx},
        "bert-optimum-openvino-int8": {"texts": _optimum_openvino},
    }
)
