"""What peers need made of CXR-BERT in the environment of `make peers`: `python -m bench.peers.bert.foreign_making …`.

As each tool's documentation does it. What it is made of, the plain BERT of `bench.peers.bert.making`, lies beside.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.peers.bert.making import HEAD, calibration_texts, made
from bench.peers.contract import Spec
from bench.peers.made_once import made_once

__all__ = ["OPTIMUM_ONNX", "OPTIMUM_OPENVINO", "SENTENCE_ONNX", "SENTENCE_OPENVINO", "made_here", "main"]

# Files that the tools write, in their folders.
SENTENCE_ONNX, SENTENCE_OPENVINO = "model_qint8_avx512_vnni.onnx", "openvino_model_qint8_quantized.xml"
OPTIMUM_ONNX, OPTIMUM_OPENVINO = "model_quantized.onnx", "openvino_model.xml"
_LONGEST = 512

# From the plain BERT's folder and an empty one, which is filled.
Make = Callable[[Path, Path], None]


def made_here(spec: Spec, what: str) -> Path:
    """The folder with what a peer needs, made by this interpreter.

    Args:
        spec: see `bench.peers.made_once`.
        what: of `MAKERS`.

    Raises:
        PeerError: it cannot be made.
    """
    made(spec, "bert")
    return made_once(spec, what, "bench.peers.bert.foreign_making", sys.executable)


def main(what: str, checkpoint: str, bundle: str, out: str) -> None:
    """Make.

    Args:
        what: of `MAKERS`.
        checkpoint: not read.
        bundle: not read.
        out: an empty folder.
    """
    MAKERS[what](Path(out).parent / "bert", Path(out))


def _sentence_transformer(bert: Path, out: Path) -> None:
    """The same network in sentence-transformers' modules, written into a folder that it opens."""
    import torch
    from sentence_transformers import SentenceTransformer, models

    head = torch.load(bert / HEAD, weights_only=True)
    size, hidden = head["dense_to_hidden.weight"].shape
    norm = models.LayerNorm(size)
    norm.norm.load_state_dict({name: head[f"LayerNorm.{name}"] for name in ("weight", "bias")})
    dense = {
        name: {"init_weight": head[f"dense_to_{name}.weight"], "init_bias": head[f"dense_to_{name}.bias"]}
        for name in ("hidden", "output")
    }
    modules = [
        models.Transformer(str(bert), max_seq_length=_LONGEST),
        models.Pooling(hidden, pooling_mode="cls"),
        models.Dense(hidden, size, activation_function=torch.nn.GELU(), **dense["hidden"]),
        norm,
        models.Dense(size, size, activation_function=torch.nn.Identity(), **dense["output"]),
        models.Normalize(),
    ]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(out))


def _sentence_onnx(bert: Path, out: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.backend import export_dynamic_quantized_onnx_model

    _sentence_transformer(bert, out)
    model = SentenceTransformer(str(out), backend="onnx", device="cpu")
    export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(out))


def _sentence_openvino(bert: Path, out: Path) -> None:
    """Calibrated with texts of a file, since its default is a data set of the hub."""
    from optimum.intel import OVQuantizationConfig
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.backend import export_static_quantized_openvino_model

    _sentence_transformer(bert, out)
    model = SentenceTransformer(str(out), backend="openvino", device="cpu")
    texts = calibration_texts()
    with tempfile.TemporaryDirectory(prefix="cxr-calibration-") as folder:
        lines = [json.dumps({"sentence": text}) for text in texts]
        (Path(folder) / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
        export_static_quantized_openvino_model(
            model,
            OVQuantizationConfig(num_samples=len(texts)),
            str(out),
            dataset_name=folder,
            dataset_config_name="default",
            dataset_split="train",
            column_name="sentence",
        )


def _optimum_onnx(bert: Path, out: Path) -> None:
    from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    model = ORTModelForFeatureExtraction.from_pretrained(bert, export=True)
    quantizer = ORTQuantizer.from_pretrained(model)
    quantizer.quantize(AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True), save_dir=out)


def _optimum_openvino(bert: Path, out: Path) -> None:
    from datasets import Dataset
    from optimum.intel import OVConfig, OVModelForFeatureExtraction, OVQuantizationConfig, OVQuantizer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert)
    model = OVModelForFeatureExtraction.from_pretrained(bert, export=True)
    rows: list[dict[str, Any]] = [
        dict(tokenizer(text, truncation=True, max_length=_LONGEST)) for text in calibration_texts()
    ]
    OVQuantizer.from_pretrained(model).quantize(
        ov_config=OVConfig(quantization_config=OVQuantizationConfig(num_samples=len(rows))),
        calibration_dataset=Dataset.from_list(rows),
        save_directory=out,
    )


MAKERS: Mapping[str, Make] = MappingProxyType(
    {
        "sentence-transformers-onnx-int8": _sentence_onnx,
        "sentence-transformers-openvino-int8": _sentence_openvino,
        "optimum-onnx-int8": _optimum_onnx,
        "optimum-openvino-int8": _optimum_openvino,
    }
)


if __name__ == "__main__":
    main(*sys.argv[1:])
