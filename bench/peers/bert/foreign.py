"""CXR-BERT in int8 by sentence-transformers, in the environment of `make peers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.peers.bert.foreign_making import (
    SENTENCE_ONNX,
    SENTENCE_OPENVINO,
    made_here,
)
from bench.peers.contract import STRIPPED, Case, Open, Prepare, Run, Spec

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


FOREIGN_BERT: Mapping[str, Mapping[str, Open]] = MappingProxyType(
    {
        "bert-sentence-transformers-onnx-int8": {"texts": _sentence_onnx},
        "bert-sentence-transformers-openvino-int8": {"texts": _sentence_openvino},
    }
)
