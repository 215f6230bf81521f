"""Peers of the environment that `make peers` sets up: they ask for transformers 4, or are what few have beside PyTorch.

"precision" of what they are told is "fp32" where nothing is said; sentence-transformers and fastembed also open the
bundle's graphs in others, and sentence-transformers' OpenVINO backend computes bf16 of fp32.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import PeerError
from bench.peers.contract import STRIPPED, TOP, Case, Open, Prepare, Run, Spec, in_batches, masks_answer, sorted_batches
from bench.peers.openers import fastembed_model, openvino_options
from bench.peers.optimum_export import HEAD

__all__ = ["FOREIGN", "optimum_texts"]

_SAID = 500


def _reference_engine(spec: Spec) -> Prepare:
    """hi-ml-multimodal's TextInferenceEngine, as its own notebook uses it: fp32, file order."""
    import torch
    from health_multimodal.text import TextInferenceEngine
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel
    from transformers import BertTokenizer

    torch.set_num_threads(spec["threads"])
    config = CXRBertConfig.from_pretrained(spec["checkpoint"])
    model = CXRBertModel.from_pretrained(spec["checkpoint"], config=config).eval()
    engine = TextInferenceEngine(BertTokenizer.from_pretrained(spec["checkpoint"]), model)

    def prepare(case: Case) -> Run:
        texts = case["texts"]

        def embed(places: list[int]) -> Any:
            return engine.get_embeddings_from_prompt([texts[place] for place in places], verbose=False).numpy()

        return lambda: in_batches(len(texts), embed)

    return prepare


def optimum_texts(model: Any, tokenizer: Any, head: Any) -> Prepare:
    """Texts through one of optimum's models, sorted by length, the projection head in PyTorch.

    Args:
        model: gives `last_hidden_state`, (texts, tokens, H).
        tokenizer: transformers'.
        head: torch.nn.Module, (texts, H) → (texts, D).

    Returns:
        A function that prepares a case; its answer has unit norm, float32 (N, D).
    """
    import torch

    def prepare(case: Case) -> Run:
        def run() -> NDArray[Any]:
            rows = tokenizer(_stripped(case))["input_ids"]

            def embed(places: list[int]) -> NDArray[Any]:
                inputs = tokenizer.pad({"input_ids": [rows[place] for place in places]}, return_tensors="pt")
                with torch.inference_mode():
                    projected = head(model(**inputs).last_hidden_state[:, 0])
                    return np.asarray(torch.nn.functional.normalize(projected, dim=-1).numpy())

            return sorted_batches([len(row) for row in rows], embed)

        return run

    return prepare


def _optimum_texts(spec: Spec) -> Prepare:
    """optimum's own export of the BERT on ONNX Runtime, sorted by length, the projection head in PyTorch."""
    import torch
    from health_multimodal.text.model import CXRBertConfig
    from health_multimodal.text.model.modelling_cxrbert import BertProjectionHead
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    torch.set_num_threads(spec["threads"])
    with tempfile.TemporaryDirectory(prefix="cxr-optimum-") as folder:
        _export(spec["checkpoint"], "feature-extraction", folder)
        model = ORTModelForFeatureExtraction.from_pretrained(folder, session_options=_session_options(spec))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        head = BertProjectionHead(CXRBertConfig.from_pretrained(spec["checkpoint"])).eval()
        head.load_state_dict(torch.load(Path(folder) / HEAD, weights_only=True))

    return optimum_texts(model, tokenizer, head)


def _optimum_masks(spec: Spec) -> Prepare:
    """optimum's own export of BertForMaskedLM in transformers' pipeline, all texts in one batch."""
    import torch
    from optimum.onnxruntime import ORTModelForMaskedLM
    from transformers import AutoTokenizer, FillMaskPipeline
    from transformers.utils import logging

    torch.set_num_threads(spec["threads"])
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory(prefix="cxr-optimum-") as folder:
        _export(spec["checkpoint"], "fill-mask", folder)
        model = ORTModelForMaskedLM.from_pretrained(folder, session_options=_session_options(spec))
        tokenizer = AutoTokenizer.from_pretrained(folder)

    def prepare(case: Case) -> Run:
        texts = case["texts"]
        pipeline = FillMaskPipeline(model=model, tokenizer=tokenizer, batch_size=len(texts), device="cpu")
        return lambda: masks_answer(pipeline(texts, top_k=TOP))

    return prepare


def _sentence_transformers_onnx(spec: Spec) -> Prepare:
    """sentence-transformers on ONNX Runtime: it sorts by length itself, batches of 32."""
    return _sentence_transformers(
        spec,
        "onnx",
        {
            "provider": "CPUExecutionProvider",
            "session_options": _session_options(spec),
            "file_name": _graph(spec, "cpu", _precision(spec)),
        },
    )


def _sentence_transformers_openvino(spec: Spec) -> Prepare:
    """sentence-transformers on OpenVINO: the same, from the graph in ONNX."""
    precision = _precision(spec)
    graph = _graph(spec, "openvino", "fp32" if precision == "bf16" else precision)
    # What is not quantized of a quantized graph is computed as OpenVINO chooses, as by the runtime.
    options = openvino_options(spec["threads"], precision, graph)
    if precision not in ("fp32", "bf16"):
        del options["ov_config"]["INFERENCE_PRECISION_HINT"]
    return _sentence_transformers(spec, "openvino", options)


def _sentence_transformers(spec: Spec, backend: str, options: Mapping[str, Any]) -> Prepare:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(spec["threads"])
    model = SentenceTransformer(str(_folder(spec)), device="cpu", backend=backend, model_kwargs=dict(options))

    def prepare(case: Case) -> Run:
        return lambda: np.asarray(model.encode(_stripped(case), show_progress_bar=False))

    return prepare


def _fastembed(spec: Spec) -> Prepare:
    """fastembed's custom model as it runs: file order, its own batches."""
    model = fastembed_model(_folder(spec), spec["threads"], _graph(spec, "cpu", _precision(spec)))
    return lambda case: lambda: np.stack(list(model.embed(_stripped(case))))


def _stripped(case: Case) -> list[str]:
    """As the reference reads them."""
    return [text.rstrip(STRIPPED) for text in case["texts"]]


def _precision(spec: Spec) -> str:
    return str(spec.get("precision") or "fp32")


def _folder(spec: Spec) -> Path:
    return Path(spec["bundle"]).resolve() / "text"


def _graph(spec: Spec, provider: str, precision: str) -> str:
    """The embedding graph's file in the text folder."""
    from runtime.bundle import open_bundle

    file = open_bundle(spec["bundle"]).artifact("text", precision, provider=provider).file
    return file.removeprefix("text/")


def _session_options(spec: Spec) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec["threads"]
    return options


def _export(checkpoint: str, task: str, folder: str) -> None:
    command = [sys.executable, "-m", "bench.peers.optimum_export", checkpoint, task, folder]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", env=environment, check=False
    )
    if done.returncode != 0:
        raise PeerError(f"optimum cannot export {checkpoint}: {done.stderr.strip()[-_SAID:]}")


FOREIGN: Mapping[str, Mapping[str, Open]] = MappingProxyType(
    {
        "reference-engine": {"texts": _reference_engine},
        "optimum": {"texts": _optimum_texts, "masks": _optimum_masks},
        "sentence-transformers-onnx": {"texts": _sentence_transformers_onnx},
        "sentence-transformers-openvino": {"texts": _sentence_transformers_openvino},
        "fastembed": {"texts": _fastembed},
    }
)
